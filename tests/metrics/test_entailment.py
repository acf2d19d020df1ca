from __future__ import annotations

import math

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.metrics.entailment import LABELS, entailment_scores
from clipvil.records import Entailment


def pairs(labels: str) -> list[Entailment]:
    """One pair a letter (c, e, n), two a picture."""
    names = {name[0]: name for name in LABELS}
    return [Entailment(str(i), str(i // 2), "so", names[letter]) for i, letter in enumerate(labels)]


def said(letters: str) -> dict[str, str]:
    return {pair.pair_id: pair.label for pair in pairs(letters)}


def test_counted_by_hand() -> None:
    found = entailment_scores(said("ceeenn"), pairs("cceenn"))
    assert found.accuracy.value == pytest.approx(100 * 5 / 6)
    assert found.confusion["contradiction"] == {"contradiction": 1, "entailment": 1, "neutral": 0}
    assert sum(n for row in found.confusion.values() for n in row.values()) == 6
    entailment = found.classes["entailment"]
    assert entailment.precision.value == pytest.approx(100 * 2 / 3)
    assert entailment.recall.value == 100
    assert entailment.f1.value == pytest.approx(80)
    assert found.classes["contradiction"].f1.value == pytest.approx(100 * 2 / 3)
    assert found.macro_f1 == pytest.approx((80 + 100 + 200 / 3) / 3)
    assert found.per_pair == {"0": 100, "1": 0, "2": 100, "3": 100, "4": 100, "5": 100}


def test_f1_is_the_harmonic_mean_on_any_answers() -> None:
    rng = np.random.default_rng(0)
    gold, guess = ("".join(rng.choice(list("cen"), 300)) for _ in range(2))
    found = entailment_scores(said(guess), pairs(gold))
    for scores in found.classes.values():
        p, r = scores.precision.value, scores.recall.value
        assert scores.f1.value == pytest.approx(2 * p * r / (p + r))
        for one in (scores.precision, scores.recall, scores.f1):
            assert 0 <= one.low <= one.value <= one.high <= 100
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high


def test_pairs_of_one_picture_count_as_one_draw() -> None:
    """Twenty pictures that are right or wrong as a whole: more pairs a picture make nothing surer."""
    gold = [Entailment(f"{i}/{k}", str(i), "so", "neutral") for i in range(20) for k in range(5)]
    guess = {p.pair_id: "neutral" if int(p.image_id) % 2 else "entailment" for p in gold}
    many = entailment_scores(guess, gold).accuracy
    one = entailment_scores({k: v for k, v in guess.items() if k.endswith("/0")}, gold[::5]).accuracy
    assert (many.low, many.high) == (one.low, one.high)


def test_a_class_that_nobody_named_has_no_precision() -> None:
    found = entailment_scores(said("eeee"), pairs("eecc"))
    assert math.isnan(found.classes["neutral"].f1.value) and found.classes["neutral"].recall.n == 0
    assert math.isnan(found.classes["contradiction"].precision.value)
    assert found.classes["contradiction"].recall.value == found.classes["contradiction"].f1.value == 0
    assert found.macro_f1 == pytest.approx((200 / 3 + 0) / 2)


@pytest.mark.parametrize(
    ("guess", "gold", "message"),
    [
        (said("ce"), pairs("cen"), "1 pairs are not judged: 2"),
        (said("cen"), pairs("ce"), "1 judgements belong to no pair: 2"),
        ({"0": "maybe"}, pairs("c"), "pair 0: unknown label 'maybe'"),
        (said("c"), pairs("c") * 2, "pair 0 stands twice"),
        (said("c"), [Entailment("0", "0", "so")], "pair 0 has no gold label"),
        ({}, [], "no pairs to score"),
    ],
)
def test_what_cannot_be_scored_is_named(guess: dict[str, str], gold: list[Entailment], message: str) -> None:
    with pytest.raises(DataError, match=message):
        entailment_scores(guess, gold)
