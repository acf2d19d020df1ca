"""Runs of the captioning tasks from recipe to result, and on from one phase into the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from clipvil.cli.main import main
from clipvil.errors import CheckpointError, UsageError
from clipvil.training.inputs import load_datasets
from clipvil.training.predictor import load
from clipvil.training.recipe import Recipe
from clipvil.training.run import evaluate, train
from clipvil.training.run_files import read_predictions, read_run
from tests.training.conftest import caption_recipe
from tests.training.stopping import stopped_after


def test_a_run_is_judged_a_picture_at_a_time(caption_run: Path) -> None:
    done = read_run(caption_run)
    assert done.result["metric"] == "CIDEr-D"
    assert done.result["mode"] == "coco"
    assert done.result["data"]["train"]["records"] == 30
    assert [entry["step"] for entry in done.result["learning_curve"]] == [4, 8]
    scores = done.scores["test"]
    assert scores.overall.n == 8 == len(scores.per_record)
    assert scores.breakdowns["metric"].keys() == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"}
    records = load_datasets(Recipe.from_file(caption_run / "recipe.yaml").data, ("test",))["test"]
    assert [p.image_id for p, _ in read_predictions(caption_run, "test")] == list(records.pictures)
    again = evaluate(caption_run, "test", quiet=True)
    assert again is not None
    assert again.overall == scores.overall


def compared(once: Path, twice: Path) -> None:
    for name in ("best.safetensors", "predictions_val.jsonl", "predictions_test.jsonl", "assets.json"):
        assert (once / name).read_bytes() == (twice / name).read_bytes(), name
    for name in ("model.safetensors", "optimiser.safetensors"):
        last = Path("checkpoints") / "checkpoint-20" / name
        assert (once / last).read_bytes() == (twice / last).read_bytes(), name


SETTINGS = ("schedule.steps=20", "training.evaluate_every=10", "model.dropout=0.1")


def test_ten_steps_and_ten_more_are_twenty_in_both_phases(
    caption_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = caption_run.parent
    first = caption_recipe(
        folder, *SETTINGS, "task_settings.scheduled_sampling_start=0", "task_settings.scheduled_sampling_every=1"
    )
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(first.to_values()))
    second = caption_recipe(
        folder, *SETTINGS, "task_settings.objective=self_critical", "task_settings.samples=2", "schedule.name=constant",
        "optimiser.lr=0.001", f"init.recipe={tmp_path / 'first.yaml'}",
    )  # fmt: skip
    once, twice = tmp_path / "once", tmp_path / "twice"
    train(second, once, quiet=True)
    for _ in range(2):
        with stopped_after(monkeypatch, 10):
            train(second, twice, quiet=True, resume=True)
        # The first time it stopped in the first phase, the second time in the second.
    assert (twice / "initial" / "result.json").exists()
    assert (twice / "checkpoints" / "checkpoint-10").exists()
    train(second, twice, quiet=True, resume=True)
    compared(once, twice)
    compared(once / "initial", twice / "initial")
    # Both phases moved the weights, and the vocabulary is that of the first.
    assert (once / "best.safetensors").read_bytes() != (once / "initial" / "best.safetensors").read_bytes()
    words = [json.loads((once / part / "assets.json").read_text())["task"] for part in (".", "initial")]
    assert words[0] == words[1]


def test_the_baseline_and_the_language_model_run_like_any_other(caption_run: Path, tmp_path: Path) -> None:
    folder = caption_run.parent
    near = train(
        caption_recipe(folder, "task=retrieval_captioning", "task_settings={}", "model={}"), tmp_path / "near",
        quiet=True,
    )  # fmt: skip
    assert near.result["stopped"]["reason"] == "nothing to train"
    assert near.scores["test"].overall.n == 8
    assert evaluate(tmp_path / "near", "test", quiet=True) == near.scores["test"]
    blind = train(caption_recipe(folder, "encoder.name=question-only"), tmp_path / "blind", quiet=True)
    assert len({p.output for p, _ in read_predictions(tmp_path / "blind", "test")}) == 1
    assert blind.scores["test"].overall.n == 8
    with pytest.raises(UsageError, match="sees no picture"):
        train(
            caption_recipe(
                folder, "encoder.name=question-only", "task=retrieval_captioning", "task_settings={}", "model={}"
            ),
            tmp_path / "both",
            quiet=True,
        )


def test_loader_workers_change_nothing(caption_run: Path, tmp_path: Path) -> None:
    recipe = caption_recipe(caption_run.parent, "training.loader_workers=2")
    train(recipe, tmp_path / "workers", quiet=True)
    assert (tmp_path / "workers" / "best.safetensors").read_bytes() == (caption_run / "best.safetensors").read_bytes()


def test_the_coco_server_takes_what_submit_writes(
    caption_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    assert main(["submit", str(caption_run), "--server", "coco", "--split", "test", "--out", str(path)]) == 0
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert len(rows) == 8
    assert all(row.keys() == {"image_id", "caption"} and isinstance(row["image_id"], int) for row in rows)
    captions = caption_run.parent / "data" / "captions_test.json"
    assert main(["submit", "--server", "coco", "--check", str(path), "--questions", str(captions)]) == 0
    assert "one to each picture" in capsys.readouterr().out
    assert main(["submit", str(caption_run), "--server", "vqa2", "--split", "test"]) == 2
    assert "judges the task vqa" in capsys.readouterr().err


def test_a_test_split_without_captions_is_captioned_and_not_scored(caption_run: Path, tmp_path: Path) -> None:
    data = caption_run.parent / "data"
    listed = json.loads((data / "captions_test.json").read_text(encoding="utf-8"))
    bare = tmp_path / "image_info.json"
    bare.write_text(json.dumps({"images": listed["images"]}))
    split = {"captions": str(bare), "images": str(data / "images" / "test")}
    datasets = load_datasets({"format": "coco_captions", "test": split})
    assert evaluate(caption_run, "test", datasets=datasets, out=tmp_path / "out", quiet=True) is None
    lines = (tmp_path / "out" / "predictions_test.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["score"] for line in lines] == [None] * 8


def test_a_captioner_answers_no_questions(caption_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"clipvil caption IMAGES .*captions"):
        load(caption_run)
    assert main(["predict", str(caption_run), "--image", "a.png", "--text", "what is it?"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "clipvil caption" in error


def test_other_data_is_no_going_on(caption_run: Path, tmp_path: Path) -> None:
    recipe = caption_recipe(caption_run.parent)
    train(recipe, tmp_path / "run", quiet=True)
    (tmp_path / "run" / "result.json").unlink()
    assets = json.loads((tmp_path / "run" / "assets.json").read_text())
    assets["data"]["train"] = "0" * 64
    (tmp_path / "run" / "assets.json").write_text(json.dumps(assets))
    with pytest.raises(CheckpointError, match="data of split 'train' changed"):
        train(recipe, tmp_path / "run", quiet=True, resume=True)
