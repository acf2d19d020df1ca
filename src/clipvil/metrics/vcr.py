"""VCR's scores: accuracy of the answer (Q->A), of the rationale given the right answer (QA->R), and of both (Q->AR).

A choice is the first of the largest scores, as NumPy's argmax takes it: four equal scores choose the first. The
rationale is read from the four scores that go with the *right* answer, whatever answer was chosen. Q->AR counts the
questions of which both are right; it is no product of the two accuracies. Chance is 25, 25 and 6.25 %.
Source: the evaluation released with VCR (rowanz/r2c).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clipvil.errors import DataError
from clipvil.metrics.entailment import Measured
from clipvil.metrics.statistics import bootstrap_mean

CHOICES = 4
ANSWER, RATIONALE, JOINT = SUBTASKS = ("Q->A", "QA->R", "Q->AR")


@dataclass(frozen=True)
class Gold:
    """What is right of a question, and its picture."""

    image_id: str
    answer: int
    rationale: int | None = None


@dataclass(frozen=True)
class Said:
    """Scores of a question: `answer` of its four answers; `rationales` by the answer that they are conditioned on, each

    four (only those of the right answer are read). Empty where nothing was said.
    """

    answer: tuple[float, ...] = ()
    rationales: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class VcrScores:
    """`measured` by name of `SUBTASKS`, as far as they were predicted; `per_record` maps a question to what it got

    (100 or 0) in each of them.
    """

    measured: Mapping[str, Measured]
    per_record: Mapping[str, Mapping[str, float]]

    @property
    def main(self) -> str:
        """The last of `SUBTASKS` that is there: Q->AR where both were predicted."""
        return [name for name in SUBTASKS if name in self.measured][-1]


def choice(scores: Sequence[float]) -> int:
    """The place of the largest score, the first of equals. Raises DataError for what is not four finite numbers."""
    if len(scores) != CHOICES or not all(math.isfinite(score) for score in scores):
        raise DataError(f"must be {CHOICES} finite numbers, not {list(scores)}")
    return max(range(CHOICES), key=lambda place: (scores[place], -place))


def vcr_scores(said: Mapping[str, Said], gold: Mapping[str, Gold], *, seed: int = 0) -> VcrScores:
    """Judge scores by question id. `seed` is that of the bootstrap, which redraws whole pictures.

    What the first question lacks (answers, or rationales) is not judged. Raises DataError when questions are not
    answered or answers belong to no question, and where some questions have rationales and others have none.
    """
    if not gold:
        raise DataError("no questions to score")
    _check_ids(said, gold)
    first = said[next(iter(gold))]
    names = [name for name, there in ((ANSWER, first.answer), (RATIONALE, first.rationales)) if there]
    if not names:
        raise DataError("the predictions have neither answers nor rationales")
    per_record: dict[str, dict[str, float]] = {}
    for key, right in gold.items():
        hits = {name: _hit(name, key, said[key], right) for name in names}
        if len(names) == 2:
            hits[JOINT] = hits[ANSWER] and hits[RATIONALE]
        per_record[key] = {name: 100.0 * hit for name, hit in hits.items()}
    clusters = [right.image_id for right in gold.values()]
    measured = {}
    for name in next(iter(per_record.values())):
        value, low, high = bootstrap_mean([hits[name] for hits in per_record.values()], clusters, seed=seed)
        # About one single picture all that is known is the scale itself.
        measured[name] = Measured(value, len(clusters), max(low, 0.0), min(high, 100.0))
    return VcrScores(measured, per_record)


def _hit(name: str, key: str, said: Said, right: Gold) -> bool:
    label = right.answer if name == ANSWER else right.rationale
    scores = said.answer if name == ANSWER else said.rationales.get(right.answer, ())
    what = "an answer" if name == ANSWER else f"a rationale to answer {right.answer}, the right one"
    if label is None:
        raise DataError(f"question {key} has no rationale_label", fix="score only questions whose labels are known")
    if not scores:
        raise DataError(f"question {key} is not given {what}, and other questions are")
    try:
        return choice(scores) == label
    except DataError as error:
        raise DataError(f"question {key}: the scores {error}") from None


def _check_ids(said: Mapping[str, Said], gold: Mapping[str, Gold]) -> None:
    for ids, what in (
        (sorted(gold.keys() - said.keys()), "questions are not answered"),
        (sorted(said.keys() - gold.keys()), "answers belong to no question"),
    ):
        if ids:
            raise DataError(f"{len(ids)} {what}: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}")
