from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from clipvil.errors import DataError, UsageError
from clipvil.tasks.base import Prediction
from clipvil.training.submission import SERVERS, check_submission, submission_rows
from tests.datasets.build import questions, write
from tests.datasets.test_captions import COCO as PICTURES
from tests.datasets.test_gqa import asked

VQA = [{"question_id": key, "answer": "yes"} for key in (10, 11, 12)]
GQA = [{"questionId": key, "prediction": "yes"} for key in ("1", "2")]
COCO = [{"image_id": key, "caption": "a dog"} for key in (3, 7, 9)]


def files(folder: Path, server: str, rows: Any) -> tuple[Path, Path]:
    whole = {"vqa2": questions(), "coco": PICTURES, "gqa": {"1": asked(), "2": asked(isBalanced=False)}}[server]
    return write(folder / "p.json", rows), write(folder / "q.json", whole)


def test_good_files_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for server, rows in (("vqa2", VQA), ("gqa", GQA), ("coco", COCO)):
        path, asks = files(tmp_path, server, rows)
        assert check_submission(path, server, asks) == len(rows)
        assert main(["submit", "--check", str(path), "--server", server, "--questions", str(asks)]) == 0
        assert f"{len(rows)} answers, one to each {SERVERS[server].noun}; {server} takes it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("server", "rows", "message"),
    [
        ("vqa2", VQA[:1], "2 of 3 questions have no answer \\(11, 12\\)"),
        ("vqa2", [*VQA, {"question_id": 9, "answer": "x"}], "answers 1 questions that the split does not ask \\(9\\)"),
        ("vqa2", [*VQA, VQA[1]], "row 4, field 'question_id': question 11 is answered twice, first in row 2"),
        (
            "vqa2",
            [{"question_id": "10", "answer": "x"}],
            "row 1, field 'question_id': must be a whole number, not '10'",
        ),
        ("vqa2", [{"question_id": True, "answer": "x"}], "must be a whole number, not True"),
        ("vqa2", [{"question_id": 10, "answer": ""}], "row 1, field 'answer': is empty"),
        ("vqa2", [{"question_id": 10, "answer": 3}], "row 1, field 'answer': must be a string, not a number"),
        (
            "vqa2",
            [{"question_id": 10, "answer": "x", "more": 1}],
            "row 1: must be an object with question_id and answer",
        ),
        ("vqa2", {"10": "x"}, "must hold a list of objects"),
        ("gqa", VQA, "row 1: must be an object with questionId and prediction and nothing else"),
        ("gqa", [{"questionId": 1, "prediction": "x"}], "row 1, field 'questionId': must be a string, not 1"),
        ("gqa", GQA[:1], "1 of 2 questions have no answer \\(2\\)"),
        ("coco", COCO[1:], "1 of 3 pictures have no answer \\(3\\)"),
        ("coco", [*COCO, COCO[0]], "row 4, field 'image_id': picture 3 is answered twice, first in row 1"),
        ("coco", [*COCO, {"image_id": 5, "caption": "x"}], "answers 1 pictures that the split does not have \\(5\\)"),
        ("coco", [{"image_id": "3", "caption": "x"}], "row 1, field 'image_id': must be a whole number, not '3'"),
    ],
)
def test_faults_are_named(tmp_path: Path, server: str, rows: Any, message: str) -> None:
    path, asks = files(tmp_path, server, rows)
    with pytest.raises(DataError, match=message) as caught:
        check_submission(path, server, asks)
    assert "p.json" in str(caught.value)
    assert json.loads(path.read_text()) == rows  # a check changes nothing


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, asks = files(tmp_path, "vqa2", VQA)
    with pytest.raises(UsageError, match="unknown server 'vqa3'; known are vqa2, gqa, coco"):
        check_submission(path, "vqa3", asks)
    for line, says in (
        (["submit", "--server", "vqa2"], "give either the folder of a run, or --check"),
        (["submit", str(tmp_path), "--server", "vqa2", "--check", str(path)], "give either"),
        (["submit", "--server", "vqa2", "--check", str(path)], "--check needs --questions"),
    ):
        assert main(line) == 2
        assert says in capsys.readouterr().err
    other = path.rename(path.with_suffix(".jsonl"))
    with pytest.raises(DataError, match=r"takes a \.json file"):
        check_submission(other, "vqa2", asks)


def test_rows_of_captions_are_about_pictures() -> None:
    said = [Prediction("caption-5", "7", "a dog", 0.5)]
    assert submission_rows("coco", said) == [{"image_id": 7, "caption": "a dog"}]
    assert submission_rows("gqa", said) == [{"questionId": "caption-5", "prediction": "a dog"}]
    with pytest.raises(
        DataError, match=r"the server coco takes picture ids that are whole numbers, and 'a\.jpg' is none"
    ):
        submission_rows("coco", [Prediction("1", "a.jpg", "a dog", 0.5)])
    with pytest.raises(DataError, match="at most 18 digits"):
        submission_rows("coco", [Prediction("1", "1" * 5000, "a dog", 0.5)])
