"""Ten annotators a question, who mostly agree: some use a synonym, some err, as the people behind VQA do."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from clipvil.mini.captions import NUMBERS
from clipvil.mini.questions import ANSWERS, Asked

ANNOTATORS = 10
SYNONYM_RATE = 0.08
"""Chance that one annotator uses another word for the same answer, where there is one."""
ERROR_RATE = 0.06
"""Chance that one annotator gives a wrong answer of the same family."""
SYNONYMS = {
    "purple": "violet",
    "pink": "rose",
    "circle": "round",
    "moon": "crescent",
    "cross": "plus",
    "diamond": "rhombus",
    "ring": "donut",
    "solid": "plain",
    "striped": "stripes",
    "dotted": "dots",
    "large": "big",
    "small": "little",
    "grass": "meadow",
    "sky": "clouds",
    "sand": "beach",
    "brick": "wall",
    "night": "stars",
}


def annotate(rng: random.Random, asked: Asked) -> list[dict[str, Any]]:
    """The `answers` of a VQA v2 annotation. The true answer is always the one given most often.

    That is what makes `multiple_choice_answer`, in VQA the commonest answer, true; ten annotators at these rates
    disagree with the truth as a majority about once in 100,000 questions, and then they are asked again.
    """
    while True:
        given = [_one(rng, asked) for _ in range(ANNOTATORS)]
        counts = Counter(text for text, _ in given).most_common()
        if counts[0][0] == asked.answer and (len(counts) == 1 or counts[1][1] < counts[0][1]):
            break
    return [
        {"answer": text, "answer_confidence": confidence, "answer_id": k + 1}
        for k, (text, confidence) in enumerate(given)
    ]


def _one(rng: random.Random, asked: Asked) -> tuple[str, str]:
    """An answer and how sure the annotator is: "yes", "maybe" or "no"."""
    if rng.random() < ERROR_RATE:
        return _wrong(rng, asked), ("maybe" if rng.random() < 0.7 else "no")
    confidence = "yes" if rng.random() < 0.9 else "maybe"
    if rng.random() < SYNONYM_RATE:
        return _synonym(asked), confidence
    return asked.answer, confidence


def _synonym(asked: Asked) -> str:
    if asked.family == "number":
        return NUMBERS[int(asked.answer)]
    return SYNONYMS.get(asked.answer, asked.answer)


def _wrong(rng: random.Random, asked: Asked) -> str:
    """Miscounts are off by one; everything else is another word of the family."""
    if asked.family == "number":
        count = int(asked.answer)
        return str(count + 1 if count == 0 or rng.random() < 0.5 else count - 1)
    others = [answer for answer in ANSWERS[asked.family] if answer != asked.answer]
    return others[rng.randrange(len(others))]
