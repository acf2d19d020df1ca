"""A corpus of questions laid out anew so that train and test disagree on which answers are likely (VQA-CP's idea).

For every type of question its answers are dealt to two sides, so that what is likely in training is not in the shifted
test set. A picture goes to the side that most of its questions lean to, so that no picture stands on both; questions
that lean to the other side are dropped, but for a share `keep` of them, which leaves every answer that is tested known
from training. From the training side a validation set and an ordinary test set, of the same priors, are carved out by
picture: the step is chosen without a look at the shifted set, and the drop is taken from the ordinary one.

Agrawal et al. 2018 dealt groups of questions (type and answer) and let pictures stand on both sides; their exact
order of dealing was not published as rules, and everything about pictures here is ours. The official VQA-CP files are
read by the format `vqa_cp`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clipvil.errors import DataError
from clipvil.metrics.vqa_normalise import normalise_lenient

SPLIT = "prior_shift"
KEEP, TRAIN_SHARE, HELD_OUT = 0.15, 0.65, 0.12


@dataclass(frozen=True)
class _Asked:
    source: str
    key: str
    image_id: str
    kind: str
    answer: str


def shift_priors(
    splits: Mapping[str, Sequence[Any]],
    *,
    seed: int = 0,
    keep: float = KEEP,
    train_share: float = TRAIN_SHARE,
    held_out: float = HELD_OUT,
) -> tuple[dict[str, dict[str, list[str]]], dict[str, Any]]:
    """New splits train, val, test and `prior_shift` of the answered questions in `splits` (of the corpus, by name).

    `train_share` of the questions lean to training, `held_out` of the training side's pictures become val, and as many
    test. Returns the lists for `datasets.listed` and what came of it, in JSON values.
    Raises DataError where there are no answers, or too few questions to fill every split.
    """
    asked = [
        _Asked(name, record.question_id, record.image_id, _kind(record), _answer(record))
        for name, records in splits.items()
        for record in records
        if record.answers
    ]
    if not asked:
        raise DataError(f"none of the splits {', '.join(splits)} has questions with answers")
    leaning = _deal(asked, seed, train_share)
    votes: Counter[str] = Counter()
    for one in asked:
        votes[one.image_id] += 1 if leaning[one.kind, one.answer] else -1
    out: dict[str, dict[str, list[str]]] = {}
    held: dict[str, list[_Asked]] = {}
    for one in asked:
        trained = votes[one.image_id] > 0 or (votes[one.image_id] == 0 and _fraction("side", seed, one.image_id) < 0.5)
        if leaning[one.kind, one.answer] != trained and _fraction("keep", seed, one.key) >= keep:
            continue
        name = _part(one.image_id, seed, held_out) if trained else SPLIT
        held.setdefault(name, []).append(one)
        out.setdefault(name, {}).setdefault(one.source, []).append(one.key)
    absent = [name for name in ("train", "val", "test", SPLIT) if name not in out]
    if absent:
        raise DataError(f"{len(asked)} questions are too few: nothing is left for {', '.join(absent)}")
    ordered = {name: out[name] for name in ("train", "val", "test", SPLIT)}
    return ordered, _about(held, len(asked), seed=seed, keep=keep, train_share=train_share, held_out=held_out)


def distance(one: Sequence[tuple[str, str]], other: Sequence[tuple[str, str]]) -> float:
    """How far apart the answer priors of two sets of (type, answer) are, 0 to 1: the total variation of a type's

    answers, averaged over the types of `other` by their questions.
    """
    here, there = _by_kind(one), _by_kind(other)
    total = sum(counts.total() for counts in there.values())
    found = 0.0
    for kind, counts in there.items():
        mine = here.get(kind, Counter())
        size, own = counts.total(), max(mine.total(), 1)
        gap = sum(abs(counts[a] / size - mine[a] / own) for a in counts.keys() | mine.keys()) / 2
        found += gap * size / total
    return found


def _deal(asked: Sequence[_Asked], seed: int, train_share: float) -> dict[tuple[str, str], bool]:
    """Whether each answer of each type of question leans to training: the most frequent first, to the side that has

    less of the type than it should; which side the first goes to is drawn by the type's hash.
    """
    leaning: dict[tuple[str, str], bool] = {}
    for kind, counts in _by_kind([(one.kind, one.answer) for one in asked]).items():
        share = {True: train_share, False: 1 - train_share}
        held = {True: 0, False: 0}
        first = _fraction("first", seed, kind) < train_share
        for answer, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            side = first if not any(held.values()) else held[True] / share[True] <= held[False] / share[False]
            leaning[kind, answer] = side
            held[side] += count
    return leaning


def _by_kind(pairs: Sequence[tuple[str, str]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for kind, answer in pairs:
        found.setdefault(kind, Counter())[answer] += 1
    return found


def _part(image_id: str, seed: int, held_out: float) -> str:
    place = _fraction("part", seed, image_id)
    return "val" if place < held_out else "test" if place < 2 * held_out else "train"


def _about(held: Mapping[str, Sequence[_Asked]], total: int, **settings: Any) -> dict[str, Any]:
    pairs = {name: [(one.kind, one.answer) for one in asked] for name, asked in held.items()}
    known = {one.answer for one in held["train"]}
    return {
        "made_by": "prior_shift",
        **settings,
        "questions": {name: len(asked) for name, asked in held.items()},
        "pictures": {name: len({one.image_id for one in asked}) for name, asked in held.items()},
        "dropped": total - sum(map(len, held.values())),
        "prior_distance_from_train": {
            name: round(distance(pairs["train"], pairs[name]), 4) for name in held if name != "train"
        },
        "answers_known_from_train": {
            name: round(sum(one.answer in known for one in asked) / len(asked), 4)
            for name, asked in held.items()
            if name != "train"
        },
    }


def _kind(record: Any) -> str:
    """The type of a question: as the corpus says, else its first two words."""
    return record.question_type or " ".join(record.question.lower().split()[:2])


def _answer(record: Any) -> str:
    said = record.multiple_choice_answer or Counter(record.answers).most_common(1)[0][0]
    return normalise_lenient(said)


def _fraction(what: str, seed: int, text: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{what}/{seed}/{text}".encode()).digest()[:7], "big") / 2**56
