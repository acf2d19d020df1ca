"""VCR from the command line: a run on the miniature world, its submission, and the scores of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.cli.main import main

SIZES = "data.sizes={train: 24, val: 8, test: 24}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vcr")
    out = folder / "run"
    command = [
        "train", "mini/vcr-clip-vil-p", "--out", str(out), f"data.root={folder / 'w'}", SIZES, "schedule.steps=3",
        "training.batch_size=8", "training.evaluate_every=3", "model.hidden=16", "model.heads=2", "model.layers=1",
    ]  # fmt: skip
    assert main(command) == 0
    return out


def test_the_submission_scores_as_the_run_says(run: Path, tmp_path: Path) -> None:
    assert main(["submit", str(run), "--server", "vcr", "--split", "test"]) == 0
    annotations = run.parent / "w/vcr_test.jsonl"
    table = run / "submission_vcr_test.csv"
    assert main(["submit", "--check", str(table), "--server", "vcr", "--questions", str(annotations)]) == 0
    scores = {}
    for name, file in (("table", table), ("lines", run / "predictions_test.jsonl")):
        out = tmp_path / f"{name}.json"
        command = ["score", "vcr", "--annotations", str(annotations), "--predictions", str(file), "--json", str(out)]
        assert main(command) == 0
        scores[name] = json.loads(out.read_text())
    assert scores["table"] == scores["lines"]
    result = json.loads((run / "result.json").read_text())
    test = result["scores"]["test"]
    assert round(test["overall"]["value"], 2) == scores["table"]["Q->AR"]
    shifted = json.loads((run / "result.json").read_text())["scores"]["rule_singular"]
    assert set(shifted["breakdowns"]["subtask"]) == {"Q->A", "QA->R", "Q->AR"}


def test_a_file_that_lacks_questions_or_columns_is_not_taken(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["submit", str(run), "--server", "vcr", "--split", "val"])
    annotations = run.parent / "w/vcr_test.jsonl"
    val = run / "submission_vcr_val.csv"
    assert main(["submit", "--check", str(val), "--server", "vcr", "--questions", str(annotations)]) == 1
    assert "questions have no answer" in capsys.readouterr().err
    assert main(["submit", str(run), "--server", "vqa2"]) == 2
    assert "the server vcr judges the task vcr and no other" in capsys.readouterr().err
