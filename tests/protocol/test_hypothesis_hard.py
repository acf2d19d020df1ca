from __future__ import annotations

import pytest

from clipvil.errors import DataError
from clipvil.protocol.hypothesis_hard import HypothesisModel, hard_pairs, terms
from clipvil.records import Entailment

LABELS = ("entailment", "neutral", "contradiction")
TELLING = ("outside", "sad", "sleeping")


def pairs(count: int, *, honest: int = 0, start: int = 0) -> list[Entailment]:
    """A word gives the label away, but in every `honest`-th pair, where it misleads."""
    out = []
    for number in range(start, start + count):
        label = LABELS[number % 3]
        word = TELLING[(number + 1) % 3] if honest and number % honest == 0 else TELLING[number % 3]
        out.append(Entailment(str(number), f"{number // 3}.jpg", f"The man number {number} is {word}.", label))
    return out


def test_what_the_wording_gives_away_is_left_out() -> None:
    test = pairs(90, honest=5, start=600)
    hard, about = hard_pairs(pairs(300), test)
    assert hard == [pair.pair_id for pair in test if int(pair.pair_id) % 5 == 0]
    assert (about["pairs"], about["hard"], about["accuracy"]) == (90, 18, 80.0)


def test_it_is_trained_on_train_alone() -> None:
    # With the words the other way round in train, the test pairs that follow its own rule are the hard ones.
    turned = [
        Entailment(p.pair_id, p.image_id, p.hypothesis, LABELS[(LABELS.index(p.label) + 1) % 3]) for p in pairs(300)
    ]
    with pytest.raises(DataError, match="give nothing away"):
        hard_pairs(turned, pairs(90, start=600))


def test_where_nothing_is_given_away_there_is_no_hard_part() -> None:
    balanced = [
        Entailment(f"{n}-{k}", f"{n}.jpg", "It is red.", label) for n in range(40) for k, label in enumerate(LABELS)
    ]
    with pytest.raises(DataError, match=r"right in 33\.3 % of the test pairs, the commonest label in 33\.3 %"):
        hard_pairs(balanced, balanced)


def test_a_split_without_labels_is_refused() -> None:
    with pytest.raises(DataError, match="needs the labels"):
        hard_pairs(pairs(30), [Entailment("1", "a", "A dog.")])


def test_the_same_pairs_give_the_same_model() -> None:
    train = pairs(60, honest=7)
    texts, labels = [p.hypothesis for p in train], [p.label for p in train]
    one, other = HypothesisModel(texts, labels), HypothesisModel(texts, labels)
    assert (one.weights == other.weights).all() and one.labels == sorted(LABELS)
    assert terms("A dog's here.") == ["a", "dog's", "here", ".", "a dog's", "dog's here", "here ."]
