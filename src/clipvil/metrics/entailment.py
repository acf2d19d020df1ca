"""SNLI-VE's score, which is plain accuracy, and what it hides: precision, recall and F1 a class, the confusion matrix.

All of them are means (an F1 is one too: each hit counts twice with 1, each false alarm and each miss once with 0), so
that all get the same interval, clustered by picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipvil.errors import DataError
from clipvil.metrics.statistics import bootstrap_mean
from clipvil.records import Entailment

LABELS = ("contradiction", "entailment", "neutral")


@dataclass(frozen=True)
class Measured:
    """A percentage over `n` pairs with its 95 % interval; NaN and no interval to speak of (0 to 100) over none."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class ClassScores:
    """One class. `precision` counts the pairs that were said to be of the class, `recall` those that are."""

    precision: Measured
    recall: Measured
    f1: Measured


@dataclass(frozen=True)
class EntailmentScores:
    """`confusion[gold][said]` counts pairs; `per_pair` is 100 for a hit and 0 for a miss, by pair id."""

    accuracy: Measured
    macro_f1: float
    classes: Mapping[str, ClassScores]
    confusion: Mapping[str, Mapping[str, int]]
    per_pair: Mapping[str, float]


def entailment_scores(said: Mapping[str, str], pairs: Sequence[Entailment], *, seed: int = 0) -> EntailmentScores:
    """Judge labels by pair id. `seed` is that of the bootstrap.

    Raises DataError when a pair has no label, is not judged or stands twice, when a judged pair is unknown, and for a
    label that there is not.
    """
    gold = _gold(pairs)
    _check(said, gold)
    image = {pair.pair_id: pair.image_id for pair in pairs}

    def measured(keys: Sequence[str], values: Sequence[float]) -> Measured:
        if not keys:
            return Measured(math.nan, 0, 0.0, 100.0)
        value, low, high = bootstrap_mean(values, [image[key] for key in keys], seed=seed)
        # About one single picture all that is known is the scale itself.
        return Measured(value, len(keys), max(low, 0.0), min(high, 100.0))

    hit = {key: 100.0 * (said[key] == label) for key, label in gold.items()}
    classes = {}
    for name in LABELS:
        true, claimed = [k for k in gold if gold[k] == name], [k for k in gold if said[k] == name]
        both = true + claimed
        f1 = measured(both, [hit[key] for key in both])
        precision = measured(claimed, [hit[key] for key in claimed])
        recall = measured(true, [hit[key] for key in true])
        classes[name] = ClassScores(precision, recall, Measured(f1.value, len(set(both)), f1.low, f1.high))
    confusion = {true: dict.fromkeys(LABELS, 0) for true in LABELS}
    for key, label in gold.items():
        confusion[label][said[key]] += 1
    known = [c.f1.value for c in classes.values() if c.f1.n]
    return EntailmentScores(measured(list(gold), list(hit.values())), sum(known) / len(known), classes, confusion, hit)


def _gold(pairs: Sequence[Entailment]) -> dict[str, str]:
    gold: dict[str, str] = {}
    for pair in pairs:
        if pair.pair_id in gold:
            raise DataError(f"pair {pair.pair_id} stands twice")
        if pair.label not in LABELS:
            raise DataError(f"pair {pair.pair_id} has no gold label", fix="score only pairs whose label is known")
        gold[pair.pair_id] = pair.label
    if not gold:
        raise DataError("no pairs to score")
    return gold


def _check(said: Mapping[str, str], gold: Mapping[str, str]) -> None:
    for ids, what in (
        (sorted(gold.keys() - said.keys()), "pairs are not judged"),
        (sorted(said.keys() - gold.keys()), "judgements belong to no pair"),
    ):
        if ids:
            some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
            raise DataError(f"{len(ids)} {what}: {some}")
    wrong = next((key for key in gold if said[key] not in LABELS), None)
    if wrong is not None:
        raise DataError(f"pair {wrong}: unknown label {said[wrong]!r}", fix=f"known are {', '.join(LABELS)}")
