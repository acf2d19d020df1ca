"""Many pairs of picture and hypothesis in little memory: the columns of questions under other names.

A pair is kept as a question whose text is the hypothesis, so that the cache, lists of ids and splits of several parts
serve both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from clipvil.datasets.columns import QuestionSequence, remembered
from clipvil.records import Entailment, Question

FIELDS = {
    "pair_id": "question_id",
    "image_id": "image_id",
    "hypothesis": "question",
    "label": "multiple_choice_answer",
    "premise": "question_type",
}
"""Field of `Entailment` -> field of `Question` that holds it; `annotators` are the answers."""


class PairSequence(Sequence[Entailment]):
    """Pairs that are made when they are asked for, out of `kept`."""

    key = "pair_id"

    def __init__(self, kept: QuestionSequence) -> None:
        self.kept = kept

    def __len__(self) -> int:
        return len(self.kept)

    @overload
    def __getitem__(self, index: int) -> Entailment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entailment]: ...
    def __getitem__(self, index: int | slice) -> Entailment | list[Entailment]:
        if isinstance(index, slice):
            return [_pair(question) for question in self.kept[index]]
        return _pair(self.kept[index])

    def __iter__(self) -> Iterator[Entailment]:
        return map(_pair, self.kept)

    def column(self, name: str) -> list[str]:
        """One field (not `annotators`) of all records, without making the records."""
        return self.kept.column(FIELDS[name])

    def image_ids(self) -> list[str]:
        """The distinct pictures in order of first use."""
        return self.kept.image_ids()

    def select(self, rows: npt.NDArray[np.int64]) -> PairSequence:
        """Some of the pairs, in the order given."""
        return PairSequence(self.kept.select(rows))

    @cached_property
    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`; remembered on disk where the source files can be recognised."""
        return remembered(self, self.kept.identity and f"{self.kept.identity}-pairs", self.kept.fingerprints)


def _pair(question: Question) -> Entailment:
    return Entailment(
        question.question_id,
        question.image_id,
        question.question,
        question.multiple_choice_answer,
        question.question_type,
        question.answers,
    )
