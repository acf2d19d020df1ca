"""Answers that somebody predicted: the result file of the VQA servers, or this library's own predictions."""

from __future__ import annotations

from pathlib import Path

from clipvil.datasets.base import iter_rows
from clipvil.errors import DataError


def read_results(path: str | Path) -> dict[str, str]:
    """Question id -> answer, in file order.

    Takes a JSON list of {"question_id", "answer"} (official), the same as JSONL or CSV, or a `predictions_*.jsonl` with
    "record_id" and "output". Raises DataError naming the row for a missing field, a wrong type or a question answered
    twice; an answer may be empty (it is then wrong).
    """
    said: dict[str, str] = {}
    rows: dict[str, int] = {}
    for row in iter_rows(path):
        own = "record_id" in row.value
        name = "record_id" if own else "question_id"
        key = row.identifier(name)
        if key in rows:
            raise row.error(f"question {key} was already answered in row {rows[key]}", name)
        rows[key] = row.row
        said[key] = row.text("output" if own else "answer", empty=True)
    if not said:
        raise DataError("holds no answers", file=path)
    return said
