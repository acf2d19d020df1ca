"""Labels that somebody predicted for SNLI-VE pairs."""

from __future__ import annotations

from pathlib import Path

from clipvil.datasets.base import iter_rows
from clipvil.errors import DataError
from clipvil.metrics.entailment import LABELS

# The fields of id and label: the corpus's own, plainer ones, predictions_<split>.jsonl of a run.
_FIELDS = (("pairID", "gold_label"), ("pair_id", "label"), ("pairID", "label"), ("record_id", "output"))


def read_labels(path: str | Path) -> dict[str, str]:
    """Pair id -> label, in file order, from JSON, JSON lines, CSV or TSV.

    Raises DataError naming the row for a missing field, a wrong type, an unknown label or a pair judged twice.
    """
    said: dict[str, str] = {}
    rows: dict[str, int] = {}
    for row in iter_rows(path):
        name, label = next((names for names in _FIELDS if all(n in row.value for n in names)), _FIELDS[0])
        key = row.identifier(name)
        if key in rows:
            raise row.error(f"pair {key} was already judged in row {rows[key]}", name)
        rows[key] = row.row
        said[key] = row.text(label)
        if said[key] not in LABELS:
            raise row.error(f"unknown label {said[key]!r}", label, f"known are {', '.join(LABELS)}")
    if not said:
        raise DataError("holds no labels", file=path)
    return said
