"""What is right in a VCR file, and what somebody predicted: the leaderboard's 20 columns, or a run's predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Row, iter_rows, json_lines
from clipvil.datasets.vcr import label_of
from clipvil.errors import DataError
from clipvil.metrics.vcr import CHOICES, Gold, Said
from clipvil.tasks.vcr_scores import ANSWERS, COLUMNS, RATIONALES, said_of

UNCONDITIONED = tuple(f"rationale_{place}" for place in range(CHOICES))
"""Columns that some write in the place of the 16: they do not say which answer they go with."""


def read_gold(path: str | Path) -> dict[str, Gold]:
    """Question id -> what is right, from an official file with labels; neither metadata nor pictures are wanted.

    Raises DataError naming the row for a missing field, a question without answer_label, a question that comes twice.
    """
    gold: dict[str, Gold] = {}
    rows: dict[str, int] = {}
    for _, row in json_lines(path):
        key = row.identifier("annot_id")
        if key in rows:
            raise row.error(f"question {key} already stands in row {rows[key]}", "annot_id")
        rows[key] = row.row
        answer = label_of(row, "answer_label")
        if answer is None:
            raise row.error("is missing", "answer_label", "score a file with labels; those of test are kept secret")
        image = next((row.identifier(name) for name in ("img_id", "img_fn") if row.has(name)), key)
        gold[key] = Gold(image, answer, label_of(row, "rationale_label"))
    if not gold:
        raise DataError("holds no questions", file=path)
    return gold


def read_said(path: str | Path) -> dict[str, Said]:
    """Question id -> scores, in file order.

    A table (or rows of JSON) with annot_id and the columns answer_0 to answer_3 or rationale_conditioned_on_a0_0 to
    ..._a3_3 or all 20, or `predictions_<split>.jsonl` of a run. Raises DataError naming row and field: a missing or
    unknown column, a value that is no finite number, a question that comes twice.
    """
    said: dict[str, Said] = {}
    rows: dict[str, int] = {}
    columns: tuple[str, ...] | None = None
    for row in iter_rows(path):
        run = "record_id" in row.value
        key = row.identifier("record_id" if run else "annot_id")
        if key in rows:
            raise row.error(f"question {key} already stands in row {rows[key]}", "record_id" if run else "annot_id")
        rows[key] = row.row
        values = _top(row) if run else row.value
        if run:
            said[key] = said_of({name: _number(row, values, name) for name in COLUMNS if name in values})
            continue
        columns = _columns(row) if columns is None else columns
        said[key] = said_of({name: _number(row, values, name) for name in columns})
    if not said:
        raise DataError("holds no predictions", file=path)
    return said


def _columns(row: Row) -> tuple[str, ...]:
    """Which of the 20 columns a table has: the answers, the rationales or both. Raises DataError for other columns."""
    given = [name for name in row.value if name != "annot_id"]
    if set(UNCONDITIONED) & set(given):
        raise row.error(
            "the columns rationale_0 to rationale_3 do not say which answer they are conditioned on",
            UNCONDITIONED[0],
            f"name them {RATIONALES[0][0]} to {RATIONALES[3][3]}: four for each answer",
        )
    unknown = [name for name in given if name not in COLUMNS]
    if unknown:
        raise row.error("is none of the leaderboard's columns", unknown[0], f"known are {COLUMNS[0]} to {COLUMNS[-1]}")
    wanted = [names for names in (ANSWERS, COLUMNS[CHOICES:]) if set(names) & set(given)]
    if not wanted:
        raise row.error("is missing", ANSWERS[0])
    return tuple(name for names in wanted for name in names)


def _number(row: Row, values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    if value is None:
        raise row.error("is missing", name)
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise row.error(f"must be a finite number, not {value!r}", name)
    return number


def _top(row: Row) -> dict[str, Any]:
    value = row.raw("top")
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise row.error("must be a list of column and probability", "top")
    return {str(name): number for name, number in value}
