"""The real rooms together: corpus, extraction, store, training, on a miniature world of a few pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.errors import DataError, StoreError
from clipvil.features.store import Store
from clipvil.training.inputs import load_datasets, open_features
from clipvil.training.run import train
from tests.training.conftest import mini_recipe


def test_a_run_extracts_what_it_needs_and_says_what_that_was(mini_run: Path) -> None:
    result = json.loads((mini_run / "result.json").read_text())
    store = Store.open(mini_run / "features")
    assert store.complete
    assert len(store) == 46
    assert result["features"]["encoder"]["fingerprint"] == result["encoder"]["fingerprint"] == store.spec.fingerprint
    assert result["features"]["cost"]["parameters"] > 100_000
    assert result["scores"]["test"]["metric"] == "vqa_accuracy"
    assert result["mode"] == "official"
    assert set(result["scores"]["test"]["breakdowns"]) == {"answer_type", "question_type"}


def test_a_finished_store_is_taken_as_it_is(mini_run: Path, tmp_path: Path) -> None:
    recipe = mini_recipe(mini_run.parent, f"features.store={mini_run / 'features'}")
    stamps = {path: path.stat().st_mtime_ns for path in (mini_run / "features").rglob("*")}
    # A part of the pictures is enough: the store may hold more than a run needs.
    some = load_datasets(recipe.data, ("test",))
    features = open_features(recipe, some, tmp_path, quiet=True)
    assert all(record.image_id in features for record in some["test"].records)
    assert {path: path.stat().st_mtime_ns for path in (mini_run / "features").rglob("*")} == stamps
    train(recipe, tmp_path / "again", quiet=True)
    assert not (tmp_path / "again" / "features").exists()
    assert (tmp_path / "again" / "best.safetensors").read_bytes() == (mini_run / "best.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("encoder.name=mini/random", "encoder.name is mini/contrastive there, mini/random asked"),
        ("encoder.resize=square:64", "encoder.resize"),
        ("encoder.positions=zero", "encoder.positions"),
        ("encoder.channels=BGR", "encoder.channels"),
        ("features.dtype=float32", "features.dtype"),
        ("features.precision=bf16", "features.precision"),
    ],
)
def test_a_store_of_something_else_is_refused(mini_run: Path, tmp_path: Path, override: str, field: str) -> None:
    recipe = mini_recipe(mini_run.parent, f"features.store={mini_run / 'features'}", override)
    with pytest.raises(StoreError, match=field):
        open_features(recipe, {}, tmp_path, quiet=True)


def test_an_unknown_split_lists_those_that_exist(mini_run: Path) -> None:
    with pytest.raises(DataError, match="no split 'dev'; it has train, val, test"):
        load_datasets(mini_recipe(mini_run.parent).data, ("dev",))
