"""Rows are comparable: the very weights that were asked for, and the same pictures for every row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clipvil.compare.left_out import left_out
from clipvil.compare.matrix import compare
from clipvil.compare.plan import make_plan
from clipvil.compare.report import render
from clipvil.compare.results import Results
from clipvil.compare.suite import merge
from clipvil.compare.table import render_table
from clipvil.features.store import Store
from clipvil.mini import weights_folder
from tests.compare.corpus import write_corpus, write_recipe


@pytest.fixture
def call(tmp_path: Path) -> dict[str, Any]:
    data, recipe = write_corpus(tmp_path / "corpus"), write_recipe(tmp_path / "r.yaml")
    return {"data": data, "recipe": recipe, "out": tmp_path / "out", "quiet": True}


def stamps(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.glob("cells/*/*/seed-?/result.json")}


def test_other_weights_behind_the_same_name_are_another_encoder(tmp_path: Path, call: dict[str, Any]) -> None:
    weights = tmp_path / "lw"
    shutil.copytree(weights_folder("contrastive"), weights)
    call |= {"encoders": [f"open_clip/local-dir:{weights}"], "question_only": False}
    first = compare(**call)
    before = stamps(tmp_path / "out")
    assert compare(**call).complete and stamps(tmp_path / "out") == before
    shutil.copy(Path(weights_folder("annotated")) / "open_clip_model.safetensors", weights)
    second = compare(**call)
    assert second.complete and stamps(tmp_path / "out") != before
    assert first.encoders[0].fingerprint and first.encoders[0].fingerprint != second.encoders[0].fingerprint
    assert len(list((tmp_path / "out" / "features").iterdir())) == 2
    # Weights that are gone: their cells say so, and nothing that was found before is lost.
    shutil.rmtree(weights)
    third = compare(**{**call, "encoders": [*call["encoders"], "mini/random"]})
    assert [cell.status for cell in third.cells] == ["failed", "done"]
    assert "is not a readable open_clip configuration" in third.failures[0].error


def test_another_resize_under_the_same_label_finds_no_store_that_refuses_it(call: dict[str, Any]) -> None:
    for resize in ("square:32", "square:64"):
        encoders = [{"name": "mini/random", "label": "mine", "resize": resize}]
        results = compare(**call, encoders=encoders, question_only=False)
        assert results.complete and results.encoders[0].resize == resize


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_picture_that_one_encoder_lacks_is_left_out_for_all(tmp_path: Path, call: dict[str, Any], jobs: int) -> None:
    broken = tmp_path / "corpus" / "8.png"  # of the test split
    whole = broken.read_bytes()
    call |= {"jobs": jobs}
    first = compare(**call, encoders=["mini/random"])
    assert first.tasks[0].left_out is None and {row.mean.n for row in first.rows if row.split == "test"} == {8}
    before = stamps(tmp_path / "out")
    # The new encoder cannot read it; the other one did, when it was whole.
    broken.write_bytes(b"no picture")
    call |= {"encoders": ["mini/random", "mini/contrastive"]}
    results = compare(**call)
    assert {row.mean.n for row in results.rows if row.split == "test"} == {6} and len(results.rows) == 6
    assert {item.mean.n for item in results.baselines if item.split == "test"} == {6}
    assert len({row.mean.n for row in results.rows if row.split == "shifted"}) == 1
    found = results.tasks[0].left_out
    assert found is not None and (found.pictures, found.first) == (1, ["8.png"])
    assert found.records == {"train": 0, "val": 0, "test": 2, "shifted": 0}
    assert found.reasons == {"unsupported (mini/contrastive)": 1}
    for text in (render_table(results).replace("\n", " "), render(results)):
        assert "left out of every row: 1 picture without features" in text and "--retry-failed" in text
    assert not set(before.items()) & set(stamps(tmp_path / "out").items())
    # Nothing is done twice on the same pictures.
    before = stamps(tmp_path / "out")
    assert compare(**call).rows == results.rows and stamps(tmp_path / "out") == before
    # Mended, it is taken in again, when asked to try; and every row is trained anew.
    broken.write_bytes(whole)
    assert compare(**call).tasks[0].left_out is not None
    mended = compare(**call, retry_failed=True)
    assert mended.complete and mended.tasks[0].left_out is None
    assert {row.mean.n for row in mended.rows if row.split == "test"} == {8}
    assert not set(before.items()) & set(stamps(tmp_path / "out").items())


def test_an_encoder_without_features_has_no_say(tmp_path: Path, call: dict[str, Any]) -> None:
    (tmp_path / "corpus" / "0.png").write_bytes(b"")
    results = compare(**call, encoders=["mini/random", f"open_clip/local-dir:{tmp_path}/absent"])
    found = results.tasks[0].left_out
    assert found is not None and found.reasons == {"empty (mini/random)": 1} and found.records["train"] == 2
    (run,) = (json.loads(p.read_text()) for p in (tmp_path / "out").glob("cells/r/question-only/seed-0/result.json"))
    assert run["data"]["train"]["skipped"] == 2
    plan = make_plan(merge(None, **{k: call[k] for k in ("data", "recipe")}, encoders=["mini/random"]), call["out"])
    assert [sorted(pictures) for pictures in left_out(plan).values()] == [["0.png"]]
    assert left_out(plan, {plan.store_path(cell) for cell in plan.cells}) == {}
    (store,) = (tmp_path / "out" / "features").iterdir()
    assert sorted(Store.open(store).lacking(["0.png", "1.png", "x"]).unknown) == ["x"]


def test_results_of_before_can_still_be_read(tmp_path: Path, call: dict[str, Any]) -> None:
    compare(**call, encoders=["question-only"])
    path = tmp_path / "out" / "results.json"
    value = json.loads(path.read_text())
    del value["tasks"][0]["left_out"]
    path.write_text(json.dumps(value))
    assert Results.load(path).tasks[0].left_out is None
