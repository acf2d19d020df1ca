"""Answers as classes: the answer vocabulary and the soft targets of VQA (0.3, 0.6, 0.9, 1 for 1, 2, 3, more votes)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from clipvil.errors import DataError
from clipvil.metrics.vqa import extend_to_ten
from clipvil.metrics.vqa_normalise import simple_word

Key = TypeVar("Key", int, str)

UNKNOWN_ANSWER = "<unk>"
PUBLISHED_ANSWERS = 3129
"""Classes of the published VQA v2 models, `<unk>` included."""


class AnswerVocabulary:
    """The closed set of answers a classifier chooses from; index 0 is `<unk>`, which is never predicted."""

    def __init__(
        self, answers: Iterable[str], *, exact: bool = False, spellings: Mapping[str, str] | None = None
    ) -> None:
        """`exact` keeps answers as they are written, instead of as `simple_word` writes them.

        `spellings` says how to write an answer to a person or a metric where that differs from its class: "the boy's"
        for "the boy 's". The official metric compares with what people wrote, letter by letter where they agree.
        """
        self.exact = exact
        self._spellings = dict(spellings or {})
        self.answers = (UNKNOWN_ANSWER, *answers)
        self._index = {answer: place for place, answer in enumerate(self.answers)}
        if len(self._index) != len(self.answers):
            double = next(a for a, c in Counter(self.answers).items() if c > 1)
            raise DataError(f"the answer {double!r} stands twice in the answer vocabulary")
        if len(self.answers) < 2:
            raise DataError(
                "the answer vocabulary is empty", fix="are there training answers, and is min_count too high?"
            )

    @classmethod
    def build(
        cls,
        answers: Iterable[Sequence[str]],
        *,
        top: int = PUBLISHED_ANSWERS - 1,
        min_count: int = 1,
        exact: bool = False,
    ) -> AnswerVocabulary:
        """The `top` most frequent answers given at least `min_count` times; equals in alphabetical order.

        `answers` holds one list of annotators' answers a question; lists shorter than ten count as if repeated up to
        ten, as in the targets. Answers are counted as `simple_word` writes them, or with `exact` as they stand.
        """
        write = str if exact else simple_word
        raw: Counter[str] = Counter()
        for given in answers:
            raw.update(extend_to_ten(given))
        counts: Counter[str] = Counter()
        spellings: dict[str, str] = {}
        for spelling, count in sorted(raw.items(), key=lambda item: (-item[1], item[0])):
            spellings.setdefault(write(spelling), spelling)
            counts[write(spelling)] += count
        kept = [(a, c) for a, c in counts.items() if c >= min_count and a and a != UNKNOWN_ANSWER]
        ordered = [answer for answer, _ in sorted(kept, key=lambda item: (-item[1], item[0]))[:top]]
        return cls(ordered, exact=exact, spellings={a: spellings[a] for a in ordered if spellings[a] != a})

    @classmethod
    def load(cls, path: str | Path, *, exact: bool = False) -> AnswerVocabulary:
        """Read a text file with one answer a line, such as MMF's `answers_vqa.txt`; `<unk>` moves to the front."""
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the answers ({error})", file=path) from None
        try:
            kept = (line for line in (raw.strip() for raw in lines) if line and line != UNKNOWN_ANSWER)
            return cls(kept, exact=exact)
        except DataError as error:
            raise DataError(str(error), file=path) from None

    @classmethod
    def from_json(cls, value: Any) -> AnswerVocabulary:
        """Take back what `to_json` returned. Raises DataError for anything else."""
        answers = value.get("answers") if isinstance(value, dict) else None
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise DataError("an answer vocabulary must be an object with a list of strings", field="answers")
        spellings = value.get("spellings", {})
        if not isinstance(spellings, dict) or not all(isinstance(text, str) for text in spellings.values()):
            raise DataError("must be an object from answers to strings", field="spellings")
        return cls(answers, exact=value.get("exact") is True, spellings=spellings)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the answers without `<unk>`, and `exact` and `spellings` where there is something to say."""
        extra: dict[str, Any] = {"exact": True} if self.exact else {}
        if self._spellings:
            extra["spellings"] = self._spellings
        return {"answers": list(self.answers[1:]), **extra}

    def spellings(self) -> tuple[str, ...]:
        """Every answer but `<unk>` as it is to be written, in the order of the classes from 1 on."""
        return tuple(self.spelled(place) for place in range(1, len(self)))

    def spelled(self, place: int) -> str:
        """How to write the answer of a class: as most training answers did, or as the vocabulary file has it."""
        answer = self.answers[place]
        return self._spellings.get(answer, answer)

    def __len__(self) -> int:
        """Number of classes, `<unk>` included."""
        return len(self.answers)

    def __getitem__(self, answer: str) -> int:
        """The class of an answer written as in the vocabulary; 0 when it is not in it."""
        return self._index.get(answer, 0)

    def indices(self, answers: Sequence[str]) -> list[int]:
        """The class of each annotator's answer, the list extended to ten first."""
        write = str if self.exact else simple_word
        return [self[write(answer)] for answer in extend_to_ten(answers)]

    def soft_targets(self, answers: Sequence[str]) -> dict[int, float]:
        """Class to target in (0, 1]: the VQA accuracy each answer would earn, leaving one annotator out.

        With c of n annotators behind an answer that is (c min(1, (c - 1) / 3) + (n - c) min(1, c / 3)) / n; `<unk>`
        earns nothing.
        """
        shares = _shares(self.indices(answers))
        return {index: share for index, share in shares.items() if index != 0}


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """Answer to score, as `AnswerVocabulary.soft_targets`, of every answer as it stands; 1 where there is only one."""
    return _shares(extend_to_ten(answers)) if answers else {}


def _shares(given: Sequence[Key]) -> dict[Key, float]:
    n = len(given)
    return {
        answer: (votes * min(1.0, (votes - 1) / 3) + (n - votes) * min(1.0, votes / 3)) / n
        for answer, votes in Counter(given).items()
    }
