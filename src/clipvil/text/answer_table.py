"""The answers that CLIP-ViL_p is pre-trained to choose from (LXMERT's 9,500), and other tasks' answers among them.

The published table is a JSON list of {"ans": text, "dsets": [source, ...]} in alphabetical order; an answer's class is
its place. Where the file is absent, a table is built from the pre-training corpus itself (`build`): LXMERT did not
publish the rule by which it chose its answers, so that one is ours. `clipvil.models.answer_transplant` takes over the
head that was trained on a table.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.errors import DataError
from clipvil.files import atomic_write_json

if TYPE_CHECKING:
    import numpy as np

PUBLISHED_SIZE = 9500
ARTICLES = ("a ", "an ", "the ")
SAME = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "grey": "gray",
}  # fmt: skip


def normalised(answer: str) -> str:
    """An answer as the table writes it (published rule).

    In this order: lower case; without one final dot, and then without blanks at the ends; without "a ", "an ", "the "
    at the front, each looked for once, and blanks after each that was found; one to ten as digits, grey as gray.
    """
    text = answer.lower()
    if text.endswith("."):
        text = text[:-1].strip()
    for article in ARTICLES:
        if text.startswith(article):
            text = text[len(article) :].strip()
    return SAME.get(text, text)


class AnswerTable:
    """Answers in a fixed order, each with the sources that it occurs in."""

    def __init__(self, answers: Iterable[str], sources: Iterable[Collection[str]] | None = None) -> None:
        """Raises DataError for an empty table or an answer that stands twice."""
        self.answers = tuple(answers)
        given = (
            tuple(frozenset(one) for one in sources) if sources is not None else (frozenset[str](),) * len(self.answers)
        )
        if len(given) != len(self.answers):
            raise DataError(f"{len(self.answers)} answers but {len(given)} lists of sources")
        self.sources = given
        self._index = {answer: place for place, answer in enumerate(self.answers)}
        if len(self._index) != len(self.answers):
            seen: set[str] = set()
            double = next(a for a in self.answers if a in seen or seen.add(a))  # type: ignore[func-returns-value]
            raise DataError(f"the answer {double!r} stands twice in the answer table")
        if not self.answers:
            raise DataError("the answer table is empty")

    @classmethod
    def load(cls, path: str | Path, *, sources: Collection[str] | None = None) -> AnswerTable:
        """Read the published file; `sources` keeps the answers that occur in one of them, numbered anew.

        Raises DataError naming file, row and field.
        """
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"cannot be read as an answer table ({error})", file=path) from None
        table = cls.from_json(value, file=path)
        return table if sources is None else table.only(sources)

    @classmethod
    def build(
        cls, counts: Mapping[str, Mapping[str, int]], *, top: int = PUBLISHED_SIZE, min_count: int = 1
    ) -> AnswerTable:
        """The answers, as `normalised` writes them, that most questions have among their labels; alphabetical order.

        `counts` is source -> answer -> questions, as `PretrainingSequence.answer_counts` gives it. Of equals the first
        in the alphabet are kept. This rule is ours: the published one is not known.
        """
        total: dict[str, int] = {}
        where: dict[str, set[str]] = {}
        for source, by_answer in counts.items():
            for raw, count in by_answer.items():
                answer = normalised(raw)
                if answer:
                    total[answer] = total.get(answer, 0) + count
                    where.setdefault(answer, set()).add(source)
        kept = sorted((a for a, n in total.items() if n >= min_count), key=lambda a: (-total[a], a))[:top]
        if not kept:
            raise DataError("no answers to build a table from", fix="do the sources have questions with answers?")
        return cls(sorted(kept), [where[answer] for answer in sorted(kept)])

    @classmethod
    def from_json(cls, value: Any, *, file: str | Path | None = None) -> AnswerTable:
        """Take back what `to_json` returned. Raises DataError naming row and field (and `file`) for anything else."""
        if not isinstance(value, list) or not value:
            raise DataError("must hold a list of answers with their sources", file=file)
        rows: dict[str, int] = {}
        for number, item in enumerate(value, start=1):
            answer, names = (item.get("ans"), item.get("dsets")) if isinstance(item, dict) else (None, None)
            if not isinstance(answer, str):
                raise DataError("must be a string", file=file, row=number, field="ans")
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DataError("must be a list of names", file=file, row=number, field="dsets")
            if rows.setdefault(answer, number) != number:
                what = f"the answer {answer!r} already stands in row {rows[answer]}"
                raise DataError(what, file=file, row=number, field="ans")
        return cls(rows, [item["dsets"] for item in value])

    def to_json(self) -> list[dict[str, Any]]:
        """The content of the published kind of file."""
        return [{"ans": a, "dsets": sorted(s)} for a, s in zip(self.answers, self.sources, strict=True)]

    def save(self, path: str | Path) -> None:
        """Write the table as such a file, whole or not at all."""
        atomic_write_json(path, self.to_json(), indent=None)

    def only(self, sources: Collection[str]) -> AnswerTable:
        """The answers of some sources, numbered anew. Raises DataError for a source that no answer has."""
        there = frozenset[str]().union(*self.sources)
        absent = next((name for name in sources if name not in there), None)
        if absent is not None:
            raise DataError(f"no answer of the table is from {absent!r}", fix=f"there are {', '.join(sorted(there))}")
        kept = [place for place, given in enumerate(self.sources) if given & set(sources)]
        return AnswerTable((self.answers[place] for place in kept), (self.sources[place] for place in kept))

    def __len__(self) -> int:
        return len(self.answers)

    def find(self, answer: str) -> int | None:
        """The class of an answer, normalised first; None when it is not in the table."""
        return self._index.get(normalised(answer))

    def targets(self, labels: Iterable[tuple[str, float]]) -> tuple[tuple[int, float], ...]:
        """(class, score) of the labels that are in the table and score above 0; empty means: no target.

        Labels that are one answer to the table stand there once each, so that their chances add up.
        """
        found = ((self.find(answer), score) for answer, score in labels)
        return tuple((place, score) for place, score in found if place is not None and score > 0)

    def draw(self, labels: Iterable[tuple[str, float]], generator: np.random.Generator) -> int | None:
        """One class, drawn in proportion to its score; None without a target. One draw from the generator, or none."""
        targets = self.targets(labels)
        if not targets:
            return None
        point = float(generator.random()) * sum(score for _, score in targets)
        for place, score in targets:
            point -= score
            if point < 0:
                return place
        return targets[-1][0]
