"""VQA accuracy (Antol et al. 2015; VQA v2): min(1, agreeing annotators / 3), averaged over leaving one annotator out.

Modes:

- `official`: equal to the official evaluator, its quirks included (see `vqa_normalise`). When all annotators gave the
  same string nothing is normalised at all, so a prediction "Yes" misses ten times "yes".
- `lenient`: both sides are always normalised, without the quirks; answer lists of fewer than ten are repeated in a
  circle up to ten, so that a single reference answer means plain exact match. For corpora of one's own.
- `exact`: nothing is normalised at all; short answer lists as under `lenient`. GQA's accuracy: its answers are
  written one way only, and its official script compares letter by letter.
- `evalai`: both sides always pass MMF's variant of the normaliser; for comparing with numbers logged by MMF.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from itertools import cycle, islice
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clipvil.errors import DataError, UsageError
from clipvil.metrics.vqa_normalise import normalise_evalai, normalise_lenient, normalise_official, strip_blanks
from clipvil.records import Question
from clipvil.text.numbering import Numbering

Floats = npt.NDArray[np.float64]
Mode = Literal["official", "lenient", "exact", "evalai"]
ANNOTATORS = 10
# With fewer answers than this, leaving one out leaves fewer than three and nobody can ever score 100.
OFFICIAL_LEAST = 4
_NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "lenient": normalise_lenient,
    "exact": str,
    "evalai": normalise_evalai,
}


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
    _check_mode(mode)
    _check_answers(answers, mode)
    said, heard = compared_strings(prediction, answers, mode)
    return _leave_one_out(tuple(a == said for a in heard))


def _check_mode(mode: str) -> None:
    if mode not in get_args(Mode):
        raise UsageError(f"unknown metric mode '{mode}'; choose one of {', '.join(get_args(Mode))}")


def _check_answers(answers: Sequence[str], mode: Mode, question: str | None = None) -> None:
    where = f"question {question}: " if question is not None else ""
    if not answers:
        raise DataError(f"{where}a question without answers cannot be scored")
    if mode == "official" and len(answers) < OFFICIAL_LEAST:
        raise DataError(
            f"{where}the official VQA accuracy needs ten annotators (at least {OFFICIAL_LEAST}), found {len(answers)}",
            fix="use the mode 'lenient'",
        )


def vqa_accuracy(predictions: Mapping[str, str], questions: Iterable[Question], mode: Mode = "official") -> VqaAccuracy:
    """Score `predictions` (question id to answer) against all of `questions`.

    Raises DataError when a question has no prediction or no answers, comes twice, or a prediction has no question.
    Questions without an answer type or a question type are left out of that breakdown.

    Equal to `question_accuracy` question by question and to the last bit, but done column-wise: every distinct string
    is normalised once, answers are compared as numbers, and each pattern of agreement is added up once.
    """
    _check_mode(mode)
    columns = _Columns(predictions, questions, mode)
    values = columns.fractions(mode)
    per_question = dict(zip(columns.keys, (100.0 * values).tolist(), strict=True))
    if not per_question:
        raise DataError("no questions to score")
    if len(per_question) < len(columns.keys):
        double = Counter(columns.keys).most_common(1)[0][0]
        raise DataError(f"question {double} comes twice")
    if len(predictions) > len(per_question):
        extra = next(key for key in predictions if key not in per_question)
        raise DataError(f"a prediction for question {extra}, which is not among the questions")
    return VqaAccuracy(
        mode=mode,
        overall=_percent(values),
        per_answer_type=_by_group(values, columns.answer_types),
        per_question_type=_by_group(values, columns.question_types),
        per_question=per_question,
    )


class _Columns:
    """Questions and what was said to them, as numbers: row i is the i-th question."""

    def __init__(self, predictions: Mapping[str, str], questions: Iterable[Question], mode: Mode) -> None:
        self.strings = Numbering()
        number = self.strings.__getitem__
        self.keys: list[str] = []
        self.answer_types: list[str] = []
        self.question_types: list[str] = []
        said, heard, counts = array("q"), array("q"), array("q")
        for question in questions:
            key, answers = question.question_id, question.answers
            prediction = predictions.get(key)
            if prediction is None:
                raise DataError(f"no prediction for question {key}", fix="predict every question exactly once")
            if len(answers) < ANNOTATORS:
                _check_answers(answers, mode, key)
                answers = tuple(answers) if mode == "official" else tuple(extend_to_ten(answers))
            said.append(number(prediction))
            heard.extend(map(number, answers))
            counts.append(len(answers))
            self.keys.append(key)
            self.answer_types.append(question.answer_type)
            self.question_types.append(question.question_type)
        self.said = np.array(said, dtype=np.int64)
        self.heard = np.array(heard, dtype=np.int64)
        self.counts = np.array(counts, dtype=np.int64)

    def fractions(self, mode: Mode) -> Floats:
        """Accuracy 0..1 of each question (N,)."""
        out = np.empty(len(self.keys), dtype=np.float64)
        starts = np.cumsum(self.counts) - self.counts
        normal = self._normalised(normalise_official if mode == "official" else _NORMALISERS[mode])
        stripped = self._normalised(strip_blanks) if mode == "official" else normal
        # Nearly always there is one count, ten; each has its own matrix (rows, count).
        for count in np.unique(self.counts).tolist():
            rows = np.flatnonzero(self.counts == count)
            heard = self.heard[starts[rows, None] + np.arange(count)]
            matches = normal[heard] == normal[self.said[rows], None]
            if mode == "official":
                plain = stripped[heard]
                agreed = (plain == plain[:, :1]).all(axis=1)
                matches = np.where(agreed[:, None], plain == stripped[self.said[rows], None], matches)
            out[rows] = _leave_one_out_rows(matches)
        return out

    def _normalised(self, normalise: Callable[[str], str]) -> npt.NDArray[np.int64]:
        """The number of each string's normal form, by the string's own number."""
        forms = Numbering()
        return np.fromiter((forms[normalise(text)] for text in self.strings), dtype=np.int64, count=len(self.strings))


def _leave_one_out_rows(matches: npt.NDArray[np.bool_]) -> Floats:
    """`_leave_one_out` of each row (N, annotators); every pattern that occurs is added up once."""
    packed = np.packbits(matches, axis=1)
    whole = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    whole[:, : packed.shape[1]] = packed
    if whole.shape[1] == 8:
        _, first, which = np.unique(whole.view(np.uint64)[:, 0], return_index=True, return_inverse=True)
    else:
        _, first, which = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    values = np.array([_leave_one_out(tuple(row)) for row in matches[first].tolist()], dtype=np.float64)
    return values[which.reshape(-1)]


def _by_group(values: Floats, groups: Sequence[str]) -> dict[str, float]:
    """The mean of each group in percent, groups in order of first appearance; the empty name is no group."""
    names = Numbering()
    codes = np.fromiter(map(names.__getitem__, groups), dtype=np.int64, count=len(groups))
    return {name: _percent(values[codes == code]) for name, code in names.items() if name}


def _percent(fractions: Floats) -> float:
    # A plain running sum in order, as in the official script: NumPy's `sum` adds in pairs, newer Pythons' compensates.
    return 100.0 * float(np.cumsum(fractions)[-1]) / len(fractions)
