from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from clipvil.cli import score
from clipvil.errors import ClipvilError
from tests.datasets.build import annotations, questions, write
from tests.shared import shared

SAID = [
    {"question_id": 10, "answer": "red"},
    {"question_id": 11, "answer": "3"},
    {"question_id": 12, "answer": "Yes"},
]


def run(folder: Path, *extra: str, said: object = SAID) -> str:
    app = typer.Typer()
    app.callback()(lambda: None)
    score.register(app)
    write(folder / "q.json", questions())
    write(folder / "a.json", annotations())
    write(folder / "p.json", said)
    paths = ["--questions", folder / "q.json", "--annotations", folder / "a.json", "--predictions", folder / "p.json"]
    result = CliRunner().invoke(app, ["score", "vqa", *map(str, paths), *extra])
    if isinstance(result.exception, ClipvilError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_table_and_json(tmp_path: Path) -> None:
    out = run(tmp_path, "--json", str(tmp_path / "out.json"))
    assert "VQA accuracy (official)" in out
    assert "33.33" in out
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["overall"] == 33.33
    assert report["per_answer_type"] == {"number": 0, "other": 100, "yes/no": 0}
    assert report["per_question_type"] == {"how many": 0, "is it": 0, "what color is the": 100}
    assert report["per_question"] == {"10": 100, "11": 0, "12": 0}
    assert report["mode"] == "official"
    assert report["n"] == 3
    assert report["interval"][0] <= 33.4 <= report["interval"][1]


def test_lenient_forgives_the_capital(tmp_path: Path) -> None:
    assert "66.67" in run(tmp_path, "--mode", "lenient")
    with pytest.raises(ClipvilError, match="unknown mode 'kind'; choose one of official, lenient, exact, evalai"):
        run(tmp_path, "--mode", "kind")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (SAID[:1], "2 questions are not answered: 11, 12"),
        ([*SAID, {"question_id": 99, "answer": "x"}], "1 answers belong to no question: 99"),
        ([*SAID, SAID[0]], "row 4, field 'question_id': question 10 was already answered in row 1"),
        ([{"question_id": 10}], "row 1, field 'answer': is missing"),
    ],
)
def test_wrong_predictions_are_named(tmp_path: Path, said: object, message: str) -> None:
    with pytest.raises(ClipvilError, match=message):
        run(tmp_path, said=said)


def test_the_recorded_evaluation_through_files(tmp_path: Path) -> None:
    recorded = json.loads(shared("fixtures", "vqa_eval", "cases.json").read_text(encoding="utf-8"))
    asked, given, said = [], [], []
    for row in recorded["rows"]:
        key = row["question_id"]
        asked.append({"question_id": key, "image_id": key // 7, "question": "?"})
        answers = [{"answer": a, "answer_id": i + 1} for i, a in enumerate(row["annotator_answers"])]
        kinds = {name: row[name] for name in ("answer_type", "question_type")}
        given.append({"question_id": key, "image_id": key // 7, "answers": answers, **kinds})
        said.append({"question_id": key, "answer": row["prediction"]})
    app = typer.Typer()
    app.callback()(lambda: None)
    score.register(app)
    paths = [
        "--questions",
        write(tmp_path / "q.json", {"questions": asked}),
        "--annotations",
        write(tmp_path / "a.json", {"annotations": given}),
        "--predictions",
        write(tmp_path / "p.json", said),
        "--json",
        tmp_path / "out.json",
    ]
    result = CliRunner().invoke(app, ["score", "vqa", *map(str, paths)])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["overall"] == recorded["accuracy_rounded"]["overall"]
    assert report["per_answer_type"] == recorded["accuracy_rounded"]["perAnswerType"]
    assert report["per_question_type"] == recorded["accuracy_rounded"]["perQuestionType"]
    assert report["per_question"] == {str(row["question_id"]): row["accuracy"] for row in recorded["rows"]}


def test_scoring_files_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "import clipvil.cli.score, clipvil.tasks.vqa_scores, clipvil.datasets.vqa_v2, clipvil.datasets.vqa_results\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
