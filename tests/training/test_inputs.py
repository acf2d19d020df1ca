"""The real rooms together: corpus, extraction, store, training, on a miniature world of a few pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipvil.datasets.base import Dataset
from clipvil.datasets.columns import QuestionBuilder, Questions, QuestionSequence
from clipvil.errors import CheckpointError, DataError, StoreError
from clipvil.features.store import Store
from clipvil.mini import weights_folder
from clipvil.records import Question
from clipvil.training.inputs import load_datasets, open_features, overlap, usable
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


def few_pictures(folder: Path, count: int = 4) -> dict[str, Dataset]:
    """A train, val and test split of the same few pictures."""
    folder.mkdir(exist_ok=True)
    records, pictures = [], {}
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (64, 64), (40 * number, 80, 120)).save(path)
        records.append(Question(f"q{number}", str(number), "which is it", ("yes" if number % 2 else "no",)))
        pictures[str(number)] = path
    return {split: Dataset("few", split, tuple(records), pictures) for split in ("train", "val", "test")}


def test_features_of_other_weights_are_not_taken(mini_run: Path, tmp_path: Path) -> None:
    weights, data = tmp_path / "lw", few_pictures(tmp_path / "pictures")
    shutil.copytree(weights_folder("contrastive"), weights)
    recipe = mini_recipe(mini_run.parent, f"encoder.name=open_clip/local-dir:{weights}")
    first = open_features(recipe, data, tmp_path, quiet=True)
    assert open_features(recipe, data, tmp_path, quiet=True).spec == first.spec
    shutil.copy(Path(weights_folder("annotated")) / "open_clip_model.safetensors", weights)
    with pytest.raises(StoreError, match=r"holds features of other weights \(fingerprint .*remove it or name another"):
        open_features(recipe, data, tmp_path, quiet=True)
    shutil.rmtree(weights)
    with pytest.raises(StoreError, match=r"cannot be told: .*; encoder.name=store:.* takes them as they are"):
        open_features(recipe, data, tmp_path, quiet=True)
    ready = recipe.with_overrides(f"encoder.name=store:{tmp_path / 'features'}")
    assert open_features(ready, data, tmp_path, quiet=True).spec == first.spec


@pytest.mark.parametrize(("layer", "good"), [("last", True), ("last+norm", True), ("stage:2", False)])
def test_a_recipe_without_a_layer_takes_no_store_of_a_chosen_one(
    mini_run: Path, tmp_path: Path, layer: str, good: bool
) -> None:
    """Of published weights, that is: they are not fetched to see, and their name says which they are."""
    shutil.copytree(mini_run / "features", tmp_path / "features")
    manifest = json.loads((tmp_path / "features" / "manifest.json").read_text())
    manifest["encoder"] |= {"name": "open_clip/RN50:openai", "layer": layer}
    (tmp_path / "features" / "manifest.json").write_text(json.dumps(manifest))
    recipe = mini_recipe(mini_run.parent, "encoder.name=open_clip/RN50:openai")
    if good:
        assert len(open_features(recipe, {}, tmp_path, quiet=True)) == 46  # type: ignore[arg-type]
        return
    with pytest.raises(StoreError, match=r"encoder.layer is stage:2 there, the default asked"):
        open_features(recipe, {}, tmp_path, quiet=True)
    named = recipe.with_overrides("encoder.layer=stage:2")
    assert len(open_features(named, {}, tmp_path, quiet=True)) == 46  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ["mini/contrastive", "store:{store}"])
def test_pictures_that_were_never_in_the_store_are_no_smaller_corpus(
    mini_run: Path, tmp_path: Path, encoder: str
) -> None:
    store = tmp_path / "features"
    open_features(mini_recipe(mini_run.parent), few_pictures(tmp_path / "pictures", 3), tmp_path, quiet=True)
    recipe = mini_recipe(mini_run.parent, f"encoder.name={encoder.format(store=store)}")
    more = few_pictures(tmp_path / "pictures", 5)
    with pytest.raises(StoreError, match=r"2 of the 5 of this data are not in it \(the first is '3'\)"):
        open_features(recipe, more, tmp_path, quiet=True)


def test_failed_pictures_are_left_out_until_they_are_tried_again(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, recipe = few_pictures(tmp_path / "pictures"), mini_recipe(mini_run.parent)
    whole = (tmp_path / "pictures" / "1.png").read_bytes()
    (tmp_path / "pictures" / "1.png").write_bytes(whole[:40])
    broken = open_features(recipe, data, tmp_path, quiet=True)
    chosen = usable(data["train"].records, broken, "train")
    assert (len(chosen.records), chosen.skipped) == (3, 1)
    assert "1 of 4 records left out" in (said := capsys.readouterr().err) and "--retry-failed tries them again" in said
    (tmp_path / "pictures" / "1.png").write_bytes(whole)
    assert "1" not in open_features(recipe, data, tmp_path, quiet=True)
    assert "1" in open_features(recipe, data, tmp_path, retry_failed=True, quiet=True)
    assert usable(data["train"].records, open_features(recipe, data, tmp_path, quiet=True), "train").left_out == ""


def test_what_failed_in_a_store_of_more_pictures_is_left_to_extract(mini_run: Path, tmp_path: Path) -> None:
    data, recipe = few_pictures(tmp_path / "pictures"), mini_recipe(mini_run.parent)
    (tmp_path / "pictures" / "1.png").write_bytes(b"no picture")
    open_features(recipe, data, tmp_path, quiet=True)
    part = {"test": Dataset("few", "test", data["test"].records[:2], {"1": tmp_path / "pictures" / "1.png"})}
    with pytest.raises(StoreError, match=r"made of another list of pictures .* with --retry-failed"):
        open_features(recipe, part, tmp_path, retry_failed=True, quiet=True)


def test_a_run_does_not_go_on_with_pictures_that_were_mended_meanwhile(mini_run: Path, tmp_path: Path) -> None:
    data, out = few_pictures(tmp_path / "pictures"), tmp_path / "run"
    recipe = mini_recipe(mini_run.parent, "training.batch_size=2")
    whole = (tmp_path / "pictures" / "1.png").read_bytes()
    (tmp_path / "pictures" / "1.png").write_bytes(b"")
    train(recipe, out, datasets=data, quiet=True)
    (out / "result.json").unlink()
    (tmp_path / "pictures" / "1.png").write_bytes(whole)
    with pytest.raises(CheckpointError, match="the data of split 'train' changed"):
        train(recipe, out, datasets=data, resume=True, retry_failed=True, quiet=True)


def lazily(records: list[Question]) -> Questions:
    builder = QuestionBuilder()
    for record in records:
        builder.add(record.question_id, record.image_id, record.question, record.answers)
    return builder.finish()


def test_overlap_counts_equal_records_and_makes_only_those_that_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    train_split = [Question(f"q{n}", str(n // 2), "what", ("a",)) for n in range(8)]
    other = [train_split[3], Question("q5", "2", "what else", ("a",)), Question("new", "7", "what", ("a",))]
    expected = {"records": 1, "pictures": 2}
    assert overlap(train_split, other) == expected
    made: list[int] = []
    monkeypatch.setattr(Questions, "record", _counting(Questions.record, made))
    assert overlap(lazily(train_split), lazily(other)) == expected
    assert sorted(made) == [0, 1, 3, 5]


def test_leaving_records_out_makes_none_of_those_that_are_made_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    records = lazily([Question(f"q{n}", str(n), "what", ("a",)) for n in range(6)])
    made: list[int] = []
    monkeypatch.setattr(Questions, "record", _counting(Questions.record, made))
    chosen = usable(records, {str(n) for n in range(6) if n != 2}, "train", quiet=True)  # type: ignore[arg-type]
    assert made == [] and isinstance(chosen.records, QuestionSequence)
    assert [record.question_id for record in chosen.records] == ["q0", "q1", "q3", "q4", "q5"]


def _counting(method: Any, made: list[int]) -> Any:
    def record(self: Questions, place: int) -> Question:
        made.append(place)
        return method(self, place)

    return record
