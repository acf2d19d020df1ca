"""Synthetic files of the size and layout of VQA v2, for benchmarks: invented words, realistic repetition."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRAIN, VAL = 443_757, 214_354  # questions of VQA v2
_CONFIDENCE = ("yes", "maybe", "no")
_NUMBERS = ("0", "1", "2", "3", "4", "none", "two", "10", "1,000", "2.5")


def questions(count: int, seed: int = 0) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of an official question and its annotation: five a picture, annotators who agree about half the time."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijklmnoprstuw", k=draw.randint(2, 9))) for _ in range(12_000)]
    kinds = [" ".join(draw.choices(words[:400], k=draw.randint(1, 4))) for _ in range(65)]
    for i in range(count):
        image, kind = 9 + 3 * (i // 5), draw.choice(kinds)
        key = image * 1000 + i % 5
        asked = f"{kind.capitalize()} {' '.join(draw.choices(words, k=draw.randint(2, 6)))}?"
        answer_type = draw.choices(("yes/no", "number", "other"), (38, 12, 50))[0]
        said = [_answer(draw, words, answer_type) for _ in range(3)]
        agree = draw.random() < 0.35
        answers = [said[0] if agree else said[min(2, int(draw.expovariate(1.2)))] for _ in range(10)]
        annotation = {
            "question_type": kind.lower(),
            "multiple_choice_answer": max(set(answers), key=answers.count),
            "answers": [
                {"answer": answer, "answer_confidence": draw.choice(_CONFIDENCE), "answer_id": place}
                for place, answer in enumerate(answers, start=1)
            ],
            "image_id": image,
            "answer_type": answer_type,
            "question_id": key,
        }
        yield {"image_id": image, "question": asked, "question_id": key}, annotation


def _answer(draw: random.Random, words: list[str], answer_type: str) -> str:
    if answer_type == "yes/no":
        return draw.choice(("yes", "no", "no", "yes", "Yes", "it isn't"))
    if answer_type == "number":
        return draw.choice(_NUMBERS)
    # A few answers make up most of what is said, and a long tail the rest; some need the whole normaliser.
    text = words[int(len(words) * draw.random() ** 4)]
    luck = draw.random()
    if luck < 0.25:
        text = f"{draw.choice(('the', 'a', 'on', 'red', 'dont'))} {text}"
    elif luck < 0.35:
        text = f"{text}{draw.choice((' & ', '-', ', ', '/'))}{words[int(600 * draw.random())]}."
    return text


def write(folder: Path, count: int, seed: int = 0) -> tuple[Path, Path]:
    """Write both files, the annotations in another order than the questions, and return their paths."""
    pairs = list(questions(count, seed))
    head = {"info": {"description": "synthetic"}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}}
    paths = folder / "questions.json", folder / "annotations.json"
    with paths[0].open("w", encoding="utf-8") as stream:
        json.dump({**head, "questions": [asked for asked, _ in pairs]}, stream)
    random.Random(seed).shuffle(pairs)
    with paths[1].open("w", encoding="utf-8") as stream:
        json.dump({**head, "annotations": [given for _, given in pairs]}, stream)
    return paths
