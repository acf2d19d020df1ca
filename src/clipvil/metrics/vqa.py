"""VQA accuracy (Antol et al. 2015; VQA v2): min(1, agreeing annotators / 3), averaged over leaving one annotator out.

Modes:

- `official`: equal to the official evaluator, its quirks included (see `vqa_normalise`). When all annotators gave the
  same string nothing is normalised at all, so a prediction "Yes" misses ten times "yes".
- `lenient`: both sides are always normalised, without the quirks; answer lists of fewer than ten are repeated in a
  circle up to ten, so that a single reference answer means plain exact match. For corpora of one's own.
- `evalai`: both sides always pass MMF's variant of the normaliser; for comparing with numbers logged by MMF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from itertools import cycle, islice
from typing import Literal, get_args

from clipvil.errors import DataError, UsageError
from clipvil.metrics.vqa_normalise import normalise_evalai, normalise_lenient, normalise_official, strip_blanks
from clipvil.records import Question

Mode = Literal["official", "lenient", "evalai"]
ANNOTATORS = 10
# With fewer answers than this, leaving one out leaves fewer than three and nobody can ever score 100.
OFFICIAL_LEAST = 4
_NORMALISERS: Mapping[str, Callable[[str], str]] = {"lenient": normalise_lenient, "evalai": normalise_evalai}


@dataclass(frozen=True)
class VqaAccuracy:
    """VQA accuracy on the scale 0 to 100, not rounded; `rounded` gives what the official script prints."""

    mode: Mode
    overall: float
    per_answer_type: Mapping[str, float]
    per_question_type: Mapping[str, float]
    per_question: Mapping[str, float]

    def rounded(self, digits: int = 2) -> dict[str, float | dict[str, float]]:
        """Overall, by answer type and by question type, rounded half away from zero as Python 2 did."""
        return {
            "overall": round_half_away(self.overall, digits),
            "per_answer_type": {k: round_half_away(v, digits) for k, v in self.per_answer_type.items()},
            "per_question_type": {k: round_half_away(v, digits) for k, v in self.per_question_type.items()},
        }


def round_half_away(value: float, digits: int = 2) -> float:
    """Round the exact binary value, ties away from zero (Python 2's `round`)."""
    return float(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def extend_to_ten(answers: Sequence[str]) -> list[str]:
    """Repeat fewer than ten answers in a circle up to ten; ten or more stay as they are."""
    return list(islice(cycle(answers), ANNOTATORS)) if 0 < len(answers) < ANNOTATORS else list(answers)


@lru_cache(maxsize=1 << 14)
def _leave_one_out(matches: tuple[bool, ...]) -> float:
    """Accuracy 0..1 from which annotators agree. Added up in the official order, so equal to the last bit."""
    agreeing = sum(matches)
    total = 0.0
    for matched in matches:
        total += min(1.0, (agreeing - matched) / 3.0)
    return total / len(matches)


def compared_strings(prediction: str, answers: Sequence[str], mode: Mode = "official") -> tuple[str, list[str]]:
    """What is really compared: the prediction and each annotator's answer after the mode's normalisation."""
    if mode != "official":
        normalise = _NORMALISERS[mode]
        return normalise(prediction), [normalise(a) for a in extend_to_ten(answers)]
    stripped = [strip_blanks(a) for a in answers]
    if len(set(stripped)) <= 1:
        return strip_blanks(prediction), stripped
    return normalise_official(prediction), [normalise_official(a) for a in answers]


def question_accuracy(prediction: str, answers: Sequence[str], mode: Mode = "official") -> float:
    """Accuracy of one prediction against its annotators' answers, 0 to 100.

    Raises UsageError for an unknown mode and DataError for too few answers (none; under `official` fewer than four).
    """
    return 100.0 * _fraction(prediction, answers, mode)


def _fraction(prediction: str, answers: Sequence[str], mode: Mode) -> float:
    if mode not in get_args(Mode):
        raise UsageError(f"unknown metric mode '{mode}'; choose one of {', '.join(get_args(Mode))}")
    if not answers:
        raise DataError("a question without answers cannot be scored")
    if mode == "official" and len(answers) < OFFICIAL_LEAST:
        raise DataError(
            f"the official VQA accuracy needs ten annotators (at least {OFFICIAL_LEAST}), found {len(answers)}",
            fix="use the mode 'lenient'",
        )
    said, heard = compared_strings(prediction, answers, mode)
    return _leave_one_out(tuple(a == said for a in heard))


def vqa_accuracy(predictions: Mapping[str, str], questions: Iterable[Question], mode: Mode = "official") -> VqaAccuracy:
    """Score `predictions` (question id to answer) against all of `questions`.

    Raises DataError when a question has no prediction or no answers, comes twice, or a prediction has no question.
    Questions without an answer type or a question type are left out of that breakdown.
    """
    per_question: dict[str, float] = {}
    by_answer: dict[str, list[float]] = {}
    by_question: dict[str, list[float]] = {}
    for question in questions:
        key = question.question_id
        if key not in predictions:
            raise DataError(f"no prediction for question {key}", fix="predict every question exactly once")
        if key in per_question:
            raise DataError(f"question {key} comes twice")
        try:
            value = _fraction(predictions[key], question.answers, mode)
        except DataError as error:
            raise DataError(f"question {key}: {error}") from None
        per_question[key] = value
        if question.answer_type:
            by_answer.setdefault(question.answer_type, []).append(value)
        if question.question_type:
            by_question.setdefault(question.question_type, []).append(value)
    if not per_question:
        raise DataError("no questions to score")
    if len(predictions) > len(per_question):
        extra = next(key for key in predictions if key not in per_question)
        raise DataError(f"a prediction for question {extra}, which is not among the questions")
    return VqaAccuracy(
        mode=mode,
        overall=_percent(per_question.values()),
        per_answer_type={k: _percent(v) for k, v in by_answer.items()},
        per_question_type={k: _percent(v) for k, v in by_question.items()},
        per_question={k: 100.0 * v for k, v in per_question.items()},
    )


def _percent(fractions: Iterable[float]) -> float:
    # A plain running sum: newer Pythons' `sum` compensates rounding errors, which the official script did not.
    total, count = 0.0, 0
    for value in fractions:
        total += value
        count += 1
    return 100.0 * total / count
