"""Answers that somebody predicted: the result files of the VQA and GQA servers, or this library's own predictions."""

from __future__ import annotations

from pathlib import Path

from clipvil.datasets.base import iter_rows
from clipvil.errors import DataError

# The fields of id and answer: VQA's servers, GQA's server, predictions_<split>.jsonl of a run.
_FIELDS = (("question_id", "answer"), ("questionId", "prediction"), ("record_id", "output"))


def read_results(path: str | Path) -> dict[str, str]:
    """Question id -> answer, in file order.

    Takes a JSON list of {"question_id", "answer"} (VQA) or {"questionId", "prediction"} (GQA), the same as JSONL or
    CSV, or a `predictions_*.jsonl` with "record_id" and "output". Raises DataError naming the row for a missing
    field, a wrong type or a question answered twice; an answer may be empty (it is then wrong).
    """
    said: dict[str, str] = {}
    rows: dict[str, int] = {}
    for row in iter_rows(path):
        name, answer = next((names for names in _FIELDS if names[0] in row.value), _FIELDS[0])
        key = row.identifier(name)
        if key in rows:
            raise row.error(f"question {key} was already answered in row {rows[key]}", name)
        rows[key] = row.row
        said[key] = row.text(answer, empty=True)
    if not said:
        raise DataError("holds no answers", file=path)
    return said
