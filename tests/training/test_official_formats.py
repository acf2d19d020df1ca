"""The official-format miniatures of VQA v2, GQA and SNLI-VE, with real pictures, through the ordinary commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.cli.main import main
from tests.shared import shared

SMALL = [
    "encoder.name=mini/random", "encoder.resize=square", "model.preset=mini", "schedule.steps=4",
    "schedule.warmup_steps=1", "schedule.milestones=[3]", "training.batch_size=4", "training.evaluate_every=2",
    "training.loader_workers=0", "features.precision=fp32", "--quiet",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:mini/random")
def test_vqa_v2_trains_scores_and_submits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = shared("data", "formats", "vqav2"), tmp_path / "run"
    pictures = "images: images, template: 'COCO_train2014_{:012d}.jpg'"
    labelled = f"{{questions: questions.json, annotations: annotations.json, {pictures}}}"
    splits = [f"data.{name}={labelled}" for name in ("train", "val")]
    splits.append(f"data.test={{questions: questions.json, {pictures}}}")
    line = ["train", "paper/vqa_v2/pythia-rn50", f"data.root={root}", *splits, *SMALL, "--out", str(run)]
    assert main(line) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["unscored"] == ["test"]
    files = [f"--{name}={root / name}.json" for name in ("questions", "annotations")]
    said = f"--predictions={run / 'predictions_val.jsonl'}"
    assert main(["score", "vqa", *files, said, "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["mode"] == result["mode"] == "official"
    assert report["overall"] == pytest.approx(result["scores"]["val"]["overall"]["value"], abs=0.005)
    assert len(report["per_question"]) == 3
    assert main(["submit", str(run), "--server", "vqa2"]) == 0
    sent = run / "submission_vqa2_test.json"
    assert {row["question_id"] for row in json.loads(sent.read_text())} == {458752000, 458752001, 458752002}
    assert main(["submit", "--check", str(sent), "--server", "vqa2", files[0]]) == 0
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore:mini/random")
def test_gqa_trains_scores_and_submits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = shared("data", "formats", "gqa"), tmp_path / "run"
    splits = [f"data.{name}={{questions: question_dir, images: images}}" for name in ("train", "val")]
    splits.append("data.testdev={questions: questions.json, images: images}")
    line = ["train", "gqa/pythia", f"data.root={root}", *splits, *SMALL, "--out", str(run)]
    assert main(line) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["mode"] == "exact"
    assert result["data"]["train"]["records"] == 2  # one question a shard
    said = f"--predictions={run / 'predictions_testdev.jsonl'}"
    line = ["score", "gqa", f"--questions={root / 'questions.json'}", said, "--json", str(tmp_path / "out.json")]
    assert main(line) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["overall"] == report["open"] == result["scores"]["testdev"]["overall"]["value"]
    assert list(report["per_question"]) == ["202218649"]
    assert report["per_steps"].keys() == {"2"}
    assert main(["submit", str(run), "--server", "gqa", "--split", "testdev"]) == 0
    (row,) = json.loads((run / "submission_gqa_testdev.json").read_text())
    assert row.keys() == {"questionId", "prediction"}
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore:mini/random")
def test_snli_ve_trains_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = shared("data", "formats", "snli_ve"), tmp_path / "run"
    splits = [f"data.{name}={{pairs: sample_pairs.jsonl, images: images}}" for name in ("train", "val", "test")]
    line = ["train", "snli_ve/pythia", f"data.root={root}", *splits, *SMALL, "--out", str(run)]
    assert main(line) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["metric"] == "entailment_accuracy"
    assert result["data"]["train"]["records"] == 16
    said = f"--predictions={run / 'predictions_test.jsonl'}"
    annotations = f"--annotations={root / 'sample_pairs.jsonl'}"
    assert main(["score", "entailment", annotations, said, "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["overall"] == pytest.approx(result["scores"]["test"]["overall"]["value"], abs=0.005)
    assert len(report["per_pair"]) == 16
    counts = {gold: sum(row.values()) for gold, row in report["confusion"].items()}
    assert counts == {"contradiction": 4, "entailment": 6, "neutral": 6}
    picture = next((root / "images").glob("2248275918*"))
    assert main(["predict", str(run), "--image", str(picture), "--text", "A toddler sleeps."]) == 0
    printed = capsys.readouterr().out
    assert all(label in printed for label in counts)


TUNED = [
    "encoder.name=mini/random", "encoder.resize=clipvil-pretrain:short=48,long=64", "model.preset=mini",
    "model.layers=1",
    "init.recipe=null", "init.weights=best", "task_settings.words=null", "schedule.steps=2",
    "trunk.schedule.milestones=[1]",
    "training.batch_size=4", "training.micro_batch=2", "training.evaluate_every=2", "training.loader_workers=0",
    "training.mixed_precision=no", "pictures.keep=nowhere", "--quiet",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:mini/random")
def test_the_paper_recipe_of_clip_vil_p_trains_on_snli_ve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = shared("data", "formats", "snli_ve"), tmp_path / "run"
    splits = [f"data.{name}={{pairs: sample_pairs.jsonl, images: images}}" for name in ("train", "val", "test")]
    line = ["train", "paper/clip_vil_p/snli-ve-rn50", f"data.root={root}", *splits, *TUNED, "--out", str(run)]
    assert main(line) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["metric"] == "entailment_accuracy" and result["data"]["test"]["records"] == 16
    assert result["features"]["source"] == "pictures"
    said = f"--predictions={run / 'predictions_test.jsonl'}"
    annotations = f"--annotations={root / 'sample_pairs.jsonl'}"
    assert main(["score", "entailment", annotations, said, "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["overall"] == pytest.approx(result["scores"]["test"]["overall"]["value"], abs=0.005)
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore:mini/random")
def test_the_paper_recipe_of_clip_vil_p_trains_on_gqa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = shared("data", "formats", "gqa"), tmp_path / "run"
    splits = ["data.train={questions: question_dir, images: images}"]
    splits += [f"data.{name}={{questions: questions.json, images: images}}" for name in ("val", "testdev")]
    line = ["train", "paper/clip_vil_p/gqa-rn50", f"data.root={root}", *splits, *TUNED, "--out", str(run)]
    assert main(line) == 0
    result = json.loads((run / "result.json").read_text())
    assert result["mode"] == "exact" and result["features"]["source"] == "pictures"
    said = f"--predictions={run / 'predictions_testdev.jsonl'}"
    line = ["score", "gqa", f"--questions={root / 'questions.json'}", said, "--json", str(tmp_path / "out.json")]
    assert main(line) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["overall"] == result["scores"]["testdev"]["overall"]["value"]
    assert main(["submit", str(run), "--server", "gqa", "--split", "testdev"]) == 0
    capsys.readouterr()
