"""Hand-made VCR files in the official layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def vcr_row(number: int = 0, **fields: Any) -> dict[str, Any]:
    """A row about two persons and a car; person 1 is right."""
    return {
        "movie": "m", "objects": ["person", "person", "car"], "img_fn": "m/a.jpg", "metadata_fn": "m/a.json",
        "question": ["Where", "is", [1], "going", "?"],
        "answer_choices": [
            [[0], "is", "going", "to", "the", "bathroom", "."], [[1], "is", "going", "into", "the", "store", "."],
            ["He", "goes", "to", [2], "."], [[0, 1], "go", "home", "."],
        ],
        "answer_label": 1,
        "rationale_choices": [
            [[1], "holds", "a", "list", "."], ["They", "are", "tired", "."], [[0], "ran", "."], [[2], "is", "red", "."],
        ],
        "rationale_label": 0, "img_id": "val-0", "question_number": number, "annot_id": f"val-{number}",
        "interesting_scores": [1], "answer_likelihood": "possible", **fields,
    }  # fmt: skip


BOXES = [[10, 20, 30, 60, 0.99], [50, 10, 90, 80, 0.98], [0, 0, 100, 100, 0.5]]


def write_vcr(folder: Path, rows: list[Any], metadata: Any = ...) -> Path:
    """Write `val.jsonl` and the metadata of the picture; None writes no metadata."""
    path = folder / "val.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if metadata is not None:
        value = {"boxes": BOXES, "segms": [], "width": 100, "height": 100} if metadata is ... else metadata
        (folder / "m").mkdir(exist_ok=True)
        (folder / "m/a.json").write_text(json.dumps(value), encoding="utf-8")
    return path
