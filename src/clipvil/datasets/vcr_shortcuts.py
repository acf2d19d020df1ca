"""The shortcut-shifted sets of VCR: who chooses by tags alone is led astray.

Most right answers of VCR repeat the tags of the question, more than the wrong ones do. Two rules turn that round, in
the answers and in the rationales of a question:

- **rule_singular** keeps the questions that name exactly one person. A choice is rewritten where it mentions
  exactly one (one tag of a person, or one of the words he and she): in the right choice the tag becomes he or she, in a
  wrong one the tag, or he or she, becomes the question's tag.
- **rule_plural** keeps the questions whose only tag is a group of two or more persons. A choice is rewritten where
  its only tag is such a group or where it says they: in the right choice the group becomes they, in a wrong one the
  group or they becomes the question's group.

He or she is what the right choice says more often (his, him, her and hers count), then what the question says more
often, else he. A word at the beginning of a sentence gets a capital. Everything else stays as it is, labels included.

Source: Ye and Kovashka 2021, "A Case Study of the Shortcut Effects in Visual Commonsense Reasoning", and the
rules released with it; of the official val set they keep 16,154 and 3,657 questions. As released, a choice's
token is replaced where it is a list of that one tag (a list that names other things too stays), or of the group in
ascending order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.datasets.base import json_lines
from clipvil.datasets.vcr import parse_row
from clipvil.errors import DataError
from clipvil.files import atomic_write

RULES = ("rule_singular", "rule_plural")
PERSON = "person"
_HE, _SHE = {"he", "his", "him"}, {"she", "her", "hers"}

Words = list[Any]
"""A sentence as the official file has it: words, and lists of object numbers."""


@dataclass(frozen=True)
class Shortcuts:
    """One shifted set: its file, the questions it keeps of those there were, and the choices that were rewritten."""

    path: Path
    kept: int
    of: int
    answers: int
    rationales: int


@dataclass(frozen=True)
class Overlap:
    """How far tags give the right answer away: over `n` questions, the share of right answers that share the most tags

    with the question (others may share as many), and what choosing by that alone would score, ties by lot; in percent.
    """

    n: int
    largest: float
    score: float


def write_shortcuts(annotations: str | Path, out: str | Path) -> dict[str, Shortcuts]:
    """Write both sets of a VCR file with labels into a folder, as <stem>_<rule>.jsonl.

    Rows keep their fields and ids, as the released sets do. Raises DataError for a file that is no VCR, for a question
    without labels, and where a rule keeps no question.
    """
    source, folder = Path(annotations), Path(out)
    kept: dict[str, list[dict[str, Any]]] = {rule: [] for rule in RULES}
    changed = {rule: [0, 0] for rule in RULES}
    total = 0
    for _, row in json_lines(source):
        record = parse_row(row)
        if record.answer_label is None or record.rationale_label is None:
            raise row.error("is missing", "answer_label", "the rules need to know which choices are right")
        total += 1
        for rule in RULES:
            found = rewrite(dict(row.value), rule)
            if found is not None:
                kept[rule].append(found[0])
                changed[rule][0] += found[1]
                changed[rule][1] += found[2]
    if not total:
        raise DataError("holds no questions", file=source)
    folder.mkdir(parents=True, exist_ok=True)
    result = {}
    for rule in RULES:
        path = folder / f"{source.stem}_{rule}.jsonl"
        if not kept[rule]:
            raise DataError(f"has no question that {rule} keeps", file=source)
        with atomic_write(path) as stream:
            for value in kept[rule]:
                stream.write(json.dumps(value).encode("ascii") + b"\n")
        result[rule] = Shortcuts(path, len(kept[rule]), total, *changed[rule])
    return result


def rewrite(row: dict[str, Any], rule: str) -> tuple[dict[str, Any], int, int] | None:
    """A row under a rule of `RULES`: the new row, and how many answers and rationales were rewritten; None if dropped.

    `row` is an official row with labels, and is not changed.
    """
    change = _singular if rule == RULES[0] else _plural
    persons = {number for number, name in enumerate(row["objects"]) if name == PERSON}
    asked = _asked_of(row["question"], persons, rule)
    if asked is None:
        return None
    out, counts = dict(row), []
    for kind in ("answer", "rationale"):
        new, count = [], 0
        for place, choice in enumerate(row[f"{kind}_choices"]):
            found = change(choice, row["question"], asked, persons, place == row[f"{kind}_label"])
            count += found is not None
            new.append(choice if found is None else found)
        out[f"{kind}_choices"] = new
        counts.append(count)
    return out, counts[0], counts[1]


def overlap(annotations: str | Path) -> Overlap:
    """What tags give away of the answers of a VCR file with labels. Raises DataError where there are none."""
    largest = score = 0.0
    n = 0
    for _, row in json_lines(annotations):
        record = parse_row(row)
        if record.answer_label is None:
            raise row.error("is missing", "answer_label")
        asked = _all_tags(record.question)
        shared = [len(asked & _all_tags(answer)) for answer in record.answers]
        best = max(shared)
        if shared[record.answer_label] == best:
            largest += 1
            score += 1 / shared.count(best)
        n += 1
    if not n:
        raise DataError("holds no questions", file=annotations)
    return Overlap(n, 100 * largest / n, 100 * score / n)


def _asked_of(question: Words, persons: set[int], rule: str) -> list[int] | None:
    """The tags that a question is about, as a token; None where the rule drops it."""
    if rule == RULES[1]:
        return _group(question, persons)
    tags = _all_tags(question) & persons
    return sorted(tags) if len(tags) == 1 else None


def _singular(choice: Words, question: Words, asked: list[int], persons: set[int], right: bool) -> Words | None:
    tags = _all_tags(choice) & persons
    pronouns = {word.lower() for word in choice if isinstance(word, str)} & {"he", "she"}
    if len(tags) + len(pronouns) != 1:
        return None
    own = list(tags)
    if right:
        return _replaced(choice, lambda token: token == own, _pronoun(choice, question))
    return _replaced(choice, lambda token: token == own or token in ("he", "she", "He", "She"), asked)


def _plural(choice: Words, question: Words, asked: list[int], persons: set[int], right: bool) -> Words | None:
    group = _group(choice, persons)
    if group is None and not {"they", "They"} & {word for word in choice if isinstance(word, str)}:
        return None
    if right:
        return _replaced(choice, lambda token: token == group, "they")
    return _replaced(choice, lambda token: token == group or token in ("they", "They"), asked)


def _replaced(choice: Words, hit: Callable[[Any], bool], by: Any) -> Words:
    """The choice with every token that is hit replaced; a word at the beginning gets a capital."""
    out = []
    for place, token in enumerate(choice):
        new = by.capitalize() if isinstance(by, str) and place == 0 else by
        out.append(new if hit(token) else token)
    return out


def _pronoun(choice: Words, question: Words) -> str:
    for counted in (choice, [*choice, *question]):
        # As released: a word is lower case or has one capital; HER is none of them.
        words = [w.lower() for w in counted if isinstance(w, str) and w in (w.lower(), w.capitalize())]
        he, she = (sum(word in which for word in words) for which in (_HE, _SHE))
        if he != she:
            return "he" if he > she else "she"
    return "he"


def _group(words: Words, persons: set[int]) -> list[int] | None:
    """The only tag of a sentence in ascending order, where it is a group of two or more persons."""
    tags = [token for token in words if not isinstance(token, str)]
    if len(tags) != 1 or len(tags[0]) < 2 or not set(tags[0]) <= persons:
        return None
    return sorted(tags[0])


def _all_tags(words: Sequence[Any]) -> set[int]:
    return {tag for token in words if not isinstance(token, str) for tag in token}
