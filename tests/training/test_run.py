from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets.base import Dataset
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.training.inputs import is_labelled, overlap
from clipvil.training.recipe import Recipe
from clipvil.training.run import evaluate, train
from clipvil.training.run_files import locked, read_predictions, read_run
from tests.training.toy import toy_recipe, toy_world


def quick(**changes: Any) -> Recipe:
    return toy_recipe(schedule__steps=20, schedule__milestones="[]", training__evaluate_every=10, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "a"
    features, splits = toy_world()
    train(quick(), out, features=features, datasets=splits, quiet=True)
    return out


def test_a_run_leaves_the_files_that_it_should(finished: Path) -> None:
    names = sorted(entry.name for entry in finished.iterdir() if entry.name != ".lock")
    assert names == [
        "assets.json", "best.safetensors", "checkpoints", "metrics.jsonl", "predictions_test.jsonl",
        "predictions_val.jsonl", "recipe.yaml", "result.json",
    ]  # fmt: skip
    assert Recipe.from_file(finished / "recipe.yaml") == quick()


def test_the_result_says_what_was_measured_on_what(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    _, splits = toy_world()
    assert result["recipe_hash"] == quick().hash()
    assert (result["task"], result["metric"], result["mode"]) == ("toy", "accuracy", "plain")
    assert set(result["scores"]) == {"val", "test"}
    assert result["scores"]["test"]["overall"]["n"] == len(splits["test"].records) == 50
    assert [entry["step"] for entry in result["learning_curve"]] == [10, 20]
    best = max(result["learning_curve"], key=lambda entry: entry["value"])
    assert result["best"] == {"step": best["step"], "value": best["value"], "split": "val"}
    assert result["scores"]["val"]["overall"]["value"] == best["value"]
    assert result["data"]["train"] == {
        "name": "toy", "fingerprint": splits["train"].fingerprint, "records": 300, "skipped": 0,
    }  # fmt: skip
    assert result["encoder"]["fingerprint"] == "0" * 16
    assert result["overlap_with_train"]["test"] == {"records": 0, "pictures": 0}
    assert result["packages"]["torch"]
    assert result["hardware"]["cpu"]["cores"] >= 1
    assert result["seconds"]["training"] > 0
    assert result["parameters"] == (10 * 32 + 32) + (32 * 3 + 3)


def test_predictions_carry_their_own_scores_in_the_order_of_the_records(finished: Path) -> None:
    _, splits = toy_world()
    lines = list(read_predictions(finished, "test"))
    assert [prediction.record_id for prediction, _ in lines] == [r.question_id for r in splits["test"].records]
    right = {record.question_id: record.answers[0] for record in splits["test"].records}
    for prediction, score in lines:
        assert score == 100.0 * (prediction.output == right[prediction.record_id])
        assert prediction.top[0] == (prediction.output, prediction.confidence)
    mean = sum(score for _, score in lines if score is not None) / len(lines)
    assert mean == pytest.approx(
        json.loads((finished / "result.json").read_text())["scores"]["test"]["overall"]["value"]
    )


def test_a_finished_run_reads_back_as_train_returned_it(tmp_path: Path) -> None:
    features, splits = toy_world()
    done = train(quick(), tmp_path, features=features, datasets=splits, quiet=True)
    again = read_run(tmp_path)
    assert again.result == json.loads(json.dumps(done.result))
    assert again.scores == done.scores
    stamp = (tmp_path / "result.json").stat().st_mtime_ns
    resumed = train(quick(), tmp_path, features=features, datasets=splits, resume=True, quiet=True)
    assert resumed.scores == done.scores
    assert (tmp_path / "result.json").stat().st_mtime_ns == stamp


def test_two_runs_of_one_recipe_are_equal_and_another_seed_is_not(tmp_path: Path, finished: Path) -> None:
    features, splits = toy_world()
    train(quick(), tmp_path / "b", features=features, datasets=splits, quiet=True)
    train(quick(seed=1), tmp_path / "c", features=features, datasets=splits, quiet=True)
    weights = (finished / "best.safetensors").read_bytes()
    assert (tmp_path / "b" / "best.safetensors").read_bytes() == weights
    assert (tmp_path / "c" / "best.safetensors").read_bytes() != weights


def test_a_folder_with_a_run_is_not_overwritten(finished: Path) -> None:
    features, splits = toy_world()
    with pytest.raises(UsageError, match="--resume"):
        train(quick(), finished, features=features, datasets=splits, quiet=True)
    with pytest.raises(CheckpointError, match="seed: 0 -> 5"):
        train(quick(seed=5), finished, features=features, datasets=splits, resume=True, quiet=True)


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    features, splits = toy_world()
    with locked(tmp_path), pytest.raises(UsageError, match="another process"):
        train(quick(), tmp_path, features=features, datasets=splits, quiet=True)


def test_other_data_under_an_unfinished_run_is_refused(tmp_path: Path, finished: Path) -> None:
    features, splits = toy_world()
    train(quick(), tmp_path, features=features, datasets=splits, quiet=True)
    (tmp_path / "result.json").unlink()
    other, other_splits = toy_world(160)
    with pytest.raises(CheckpointError, match=r"data of split 'train' changed"):
        train(quick(), tmp_path, features=other, datasets=other_splits, resume=True, quiet=True)
    # Killed after the last step but before the result: the result is made up for, and is the same.
    train(quick(), tmp_path, features=features, datasets=splits, resume=True, quiet=True)
    assert (tmp_path / "predictions_test.jsonl").read_bytes() == (finished / "predictions_test.jsonl").read_bytes()


def test_evaluate_finds_again_what_training_found(finished: Path, tmp_path: Path) -> None:
    features, splits = toy_world()
    before = (finished / "predictions_test.jsonl").read_bytes()
    scores = evaluate(finished, "test", features=features, datasets=splits, out=tmp_path, quiet=True)
    assert scores is not None
    assert scores == read_run(finished).scores["test"]
    assert (tmp_path / "predictions_test.jsonl").read_bytes() == before
    written = json.loads((tmp_path / "evaluation_test.json").read_text())
    assert written["scores"] == json.loads((finished / "result.json").read_text())["scores"]["test"]
    assert written["data"]["fingerprint"] == splits["test"].fingerprint


def test_evaluate_refuses_features_of_another_encoder(finished: Path) -> None:
    features, splits = toy_world()
    features.spec = dataclasses.replace(features.spec, fingerprint="1" * 16)
    with pytest.raises(CheckpointError, match="trained with toy of fingerprint 0000"):
        evaluate(finished, "test", features=features, datasets=splits, quiet=True)


@pytest.mark.parametrize("override", ["optimiser.lr=1", "data.root=x"])
def test_evaluate_changes_data_only_and_not_into_the_run(finished: Path, override: str) -> None:
    with pytest.raises(UsageError, match="override"):
        evaluate(finished, "test", overrides=[override], quiet=True)


def test_an_unfinished_or_absent_run_is_named(tmp_path: Path) -> None:
    features, splits = toy_world()
    with pytest.raises(CheckpointError, match="no run is here"):
        evaluate(tmp_path, "test", features=features, datasets=splits)
    (tmp_path / "recipe.yaml").write_text("task: toy\n")
    with pytest.raises(CheckpointError, match="did its training finish"):
        evaluate(tmp_path, "test", features=features, datasets=splits)
    with pytest.raises(CheckpointError, match="clipvil evaluate"):
        list(read_predictions(tmp_path, "test"))


def test_records_without_features_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features, splits = toy_world(absent=["3", "160"])
    result = train(quick(), tmp_path, features=features, datasets=splits).result
    assert result["data"]["train"] == {**result["data"]["train"], "records": 298, "skipped": 2}
    assert result["data"]["val"]["skipped"] == 2
    assert result["scores"]["val"]["overall"]["n"] == 48
    assert "train: 2 of 300 records left out" in capsys.readouterr().err


def test_no_usable_record_at_all_is_an_error(tmp_path: Path) -> None:
    features, splits = toy_world(absent=[str(i) for i in range(175, 200)])
    with pytest.raises(DataError, match="none of the 50 records of split 'test'"):
        train(quick(), tmp_path, features=features, datasets=splits, quiet=True)


def test_a_test_split_without_answers_gets_predictions_and_no_score(tmp_path: Path) -> None:
    features, splits = toy_world()
    bare = tuple(dataclasses.replace(record, answers=()) for record in splits["test"].records)
    splits["test"] = dataclasses.replace(splits["test"], records=bare)
    done = train(quick(), tmp_path, features=features, datasets=splits, quiet=True)
    assert done.result["unscored"] == ["test"]
    assert set(done.scores) == {"val"}
    assert [score for _, score in read_predictions(tmp_path, "test")] == [None] * len(bare)
    assert evaluate(tmp_path, "test", features=features, datasets=splits, quiet=True) is None
    assert read_run(tmp_path).scores == done.scores


def test_train_and_val_are_needed(tmp_path: Path) -> None:
    features, splits = toy_world()
    splits.pop("val")
    with pytest.raises(DataError, match="no split 'val'"):
        train(quick(), tmp_path, features=features, datasets=splits, quiet=True)


def test_training_records_in_a_test_split_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features, splits = toy_world()
    leaked = Dataset("toy", "test", [*splits["train"].records[:4], *splits["test"].records], {})
    result = train(quick(), tmp_path, features=features, datasets={**splits, "test": leaked}).result
    assert result["overlap_with_train"]["test"] == {"records": 4, "pictures": 2}
    assert "4 of its records were also trained on" in capsys.readouterr().err
    assert overlap(splits["train"].records, splits["val"].records) == {"records": 0, "pictures": 0}


def test_labels_are_recognised() -> None:
    _, splits = toy_world()
    assert is_labelled(splits["test"].records)
    assert not is_labelled([dataclasses.replace(record, answers=()) for record in splits["test"].records])
    assert is_labelled([object()])


def test_a_damaged_prediction_file_names_its_row(finished: Path, tmp_path: Path) -> None:
    lines = (finished / "predictions_test.jsonl").read_text().splitlines()
    (tmp_path / "predictions_test.jsonl").write_text("\n".join([*lines[:3], '{"record_id": 3}']))
    with pytest.raises(CheckpointError, match="row 4"):
        list(read_predictions(tmp_path, "test"))


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    features, splits = toy_world()
    recipe = quick(training__trackers="[tensorboard]")
    result = train(recipe, tmp_path, features=features, datasets=splits, quiet=True).result
    files = [path for path in tmp_path.rglob("*tfevents*") if path.parent.name == "clipvil"]
    events = EventAccumulator(str(files[0]))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("val/accuracy")] == [
        (entry["step"], entry["value"]) for entry in result["learning_curve"]
    ]
    assert len(events.Scalars("train/loss")) == 5


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, splits = toy_world()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"wandb.*not installed.*clipvil\[track\]"):
        train(quick(training__trackers="[wandb]"), tmp_path, features=features, datasets=splits, quiet=True)
