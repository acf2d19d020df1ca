"""Small navigation corpora in the official formats."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any


def r2r_rows() -> list[dict[str, Any]]:
    return [
        {
            "distance": 4.0,
            "scan": "house",
            "path_id": 7,
            "path": ["sw", "se", "ne"],
            "heading": 1.5,
            "instructions": ["Walk east. ", "Go, then turn left!"],
        },
        {
            "distance": 6.32,
            "scan": "house",
            "path_id": 9,
            "path": ["ne", "far"],
            "heading": 0,
            "instructions": ["Go up. "],
        },
    ]


def rxr_rows() -> list[dict[str, Any]]:
    common = {"scan": "house", "path": ["sw", "nw"], "heading": 0.5, "timed_instruction": [], "annotator_id": 3}
    texts = {"en-IN": "Go north.", "hi-IN": "उत्तर की ओर जाओ", "te-IN": "ఉత్తరం వైపు వెళ్ళు", "en-US": "North."}
    return [
        {**common, "instruction_id": n, "path_id": n // 2, "language": language, "instruction": text}
        for n, (language, text) in enumerate(texts.items(), start=20)
    ]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def write_gz(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path
