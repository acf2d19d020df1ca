"""Small official files for the tests of the readers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

QUESTIONS: dict[str, Any] = {
    "info": {},
    "questions": [
        {"question_id": 10, "image_id": 1, "question": "What color is the caf\u00e9?"},
        {"question_id": 11, "image_id": 1, "question": "How many dogs?"},
        {"question_id": 12, "image_id": 2, "question": "Is it \U0001f436?"},
    ],
}
ANNOTATIONS: dict[str, Any] = {
    "annotations": [
        {
            "question_id": key,
            "image_id": image,
            "answer_type": kind,
            "question_type": asked,
            "multiple_choice_answer": answer,
            "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)],
        }
        for key, image, kind, asked, answer in [
            (12, 2, "yes/no", "is it", "yes"),
            (10, 1, "other", "what color is the", "red"),
            (11, 1, "number", "how many", "2"),
        ]
    ]
}


def questions() -> dict[str, Any]:
    """A questions file that may be changed freely."""
    return copy.deepcopy(QUESTIONS)


def annotations() -> dict[str, Any]:
    """The annotations of `questions`, in another order."""
    return copy.deepcopy(ANNOTATIONS)


def write(path: Path, value: Any) -> Path:
    """Write JSON and return the path."""
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path
