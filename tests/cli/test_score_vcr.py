from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from clipvil.tasks.vcr_scores import COLUMNS
from tests.datasets.vcr_files import vcr_row, write_vcr


def table(path: Path, rows: dict[str, list[float | str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    lines = [",".join(["annot_id", *columns])] + [",".join([key, *map(str, row)]) for key, row in rows.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def row(answer: list[float], rationales: dict[int, list[float]]) -> list[float | str]:
    return [*answer, *(value for given in range(4) for value in rationales.get(given, [1, 0, 0, 0]))]


def run(annotations: Path, predictions: Path, *more: str) -> int:
    return main(["score", "vcr", "--annotations", str(annotations), "--predictions", str(predictions), *more])


def test_scores_as_the_reference_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Group tags and tags of persons and things in the annotations, whose metadata is nowhere to be found."""
    rows = [vcr_row(n, answer_label=label, rationale_label=rationale, img_id=f"val-{n}")
            for n, (label, rationale) in enumerate([(1, 2), (0, 0), (3, 1), (2, 3)])]  # fmt: skip
    annotations = write_vcr(tmp_path, rows, None)
    predictions = table(
        tmp_path / "p.csv",
        {
            "val-2": row([0.1, 0.2, 0.3, 0.4], {3: [0, 0, 1, 0], 0: [0, 1, 0, 0]}),  # right, wrong under its answer
            "val-0": row([0.1, 0.7, 0.1, 0.1], {1: [0.1, 0.2, 0.5, 0.2]}),  # both right
            "val-1": row([0.25, 0.25, 0.25, 0.25], {0: [0.25, 0.25, 0.25, 0.25]}),  # four equal: the first, both right
            "val-3": row([0.9, 0.1, 0.0, 0.0], {2: [0, 0, 0, 1], 0: [1, 0, 0, 0]}),  # wrong, right under the right one
        },
    )
    assert run(annotations, predictions, "--json", str(tmp_path / "o.json")) == 0
    out = json.loads((tmp_path / "o.json").read_text())
    assert (out["Q->A"], out["QA->R"], out["Q->AR"], out["overall"], out["n"]) == (75.0, 75.0, 50.0, 50.0, 4)
    assert out["mode"] == "Q->AR"
    assert out["per_record"]["val-3"] == {"Q->A": 0.0, "QA->R": 100.0, "Q->AR": 0.0}
    assert list(out["per_record"]) == ["val-0", "val-1", "val-2", "val-3"]
    low, high = out["subtasks"]["Q->A"]["interval"]
    assert 0 <= low < 75 < high <= 100
    assert "Q->AR" in capsys.readouterr().out


def test_a_runs_predictions_and_answers_alone(tmp_path: Path) -> None:
    annotations = write_vcr(tmp_path, [vcr_row()], None)
    line = {"record_id": "val-0", "top": [[f"answer_{n}", float(n == 1)] for n in range(4)], "score": 1.0}
    (tmp_path / "predictions_val.jsonl").write_text(json.dumps(line) + "\n")
    assert run(annotations, tmp_path / "predictions_val.jsonl", "--json", str(tmp_path / "o.json")) == 0
    out = json.loads((tmp_path / "o.json").read_text())
    assert (out["Q->A"], out["mode"]) == (100.0, "Q->A")
    assert "QA->R" not in out


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ({"val-0": [1, 0, 0, 0] * 2}, (*COLUMNS[:4], *(f"rationale_{n}" for n in range(4))), "do not say which answer"),
        ({"val-0": [1, 0, 0]}, COLUMNS[:3], "row 2, field 'answer_3': is missing"),
        (
            {"val-0": [1, 0, 0, 0, 9]},
            (*COLUMNS[:4], "answer_4"),
            "field 'answer_4': is none of the leaderboard's columns",
        ),
        ({"val-0": [1, "nan", 0, 0]}, COLUMNS[:4], "row 2, field 'answer_1': must be a finite number, not 'nan'"),
        ({"val-0": [1, "", 0, 0]}, COLUMNS[:4], "row 2, field 'answer_1': is missing"),
        ({"val-9": [1, 0, 0, 0]}, COLUMNS[:4], "1 questions are not answered: val-0"),
        ({"val-0": [1, 0, 0, 0], "val-9": [1, 0, 0, 0]}, COLUMNS[:4], "1 answers belong to no question: val-9"),
        ({"val-0": []}, (), "field 'answer_0': is missing"),
    ],
)
def test_other_files_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: Any, columns: tuple[str, ...], message: str
) -> None:
    annotations = write_vcr(tmp_path, [vcr_row()], None)
    assert run(annotations, table(tmp_path / "p.csv", rows, columns)) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_double_questions_and_missing_labels_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = write_vcr(tmp_path, [vcr_row()], None)
    path = table(tmp_path / "p.csv", {"val-0": [1, 0, 0, 0]}, COLUMNS[:4])
    path.write_text(path.read_text() + "val-0,1,0,0,0\n")
    assert run(annotations, path) == 1
    assert "row 3, field 'annot_id': question val-0 already stands in row 2" in capsys.readouterr().err
    write_vcr(tmp_path, [vcr_row(), vcr_row()], None)
    assert run(annotations, path) == 1
    assert "row 2, field 'annot_id': question val-0 already stands in row 1" in capsys.readouterr().err
    write_vcr(tmp_path, [vcr_row(answer_label=None)], None)
    assert run(annotations, path) == 1
    assert "row 1, field 'answer_label': is missing" in capsys.readouterr().err
