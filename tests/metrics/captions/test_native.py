from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.metrics.captions import TokenisedCorpus
from clipvil.metrics.captions.ngrams import count_ngrams, number_words, one_to_one_pairs, shared_ngrams
from tests.shared import shared

TOLERANCE = 1e-9


def recorded(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(shared("fixtures", "caption_metrics", name).read_text(encoding="utf-8"))
    return value


def computed(corpus: TokenisedCorpus) -> tuple[dict[str, Any], dict[str, float]]:
    counts = corpus.bleu()
    each = {"rouge_l": corpus.rouge_l(), "cider_d": corpus.cider_d(), "cider_plain": corpus.cider()}
    means = {name: float(values.mean()) for name, values in each.items()}
    for order in range(4):
        each[f"bleu{order + 1}"] = counts.per_image()[:, order]
        means[f"bleu{order + 1}"] = float(counts.corpus()[order])
    return each, means


@pytest.mark.parametrize("part", ["main", "edge"])
def test_recorded_scores(part: str) -> None:
    want = recorded("scorers.json")[part]
    each, means = computed(TokenisedCorpus(want["hypotheses"], want["references"]))
    assert set(each) == set(want["per_image"])
    for name, values in each.items():
        np.testing.assert_allclose(values, want["per_image"][name], rtol=0, atol=TOLERANCE, err_msg=name)
        assert means[name] == pytest.approx(want["corpus"][name], abs=TOLERANCE), name


def test_recorded_corpora_of_one_picture() -> None:
    want = recorded("scorers.json")
    for index, scores in want["one_image_corpora"]["corpus_scores"].items():
        said, given = want["main"]["hypotheses"][int(index)], want["main"]["references"][int(index)]
        _, means = computed(TokenisedCorpus([said], [given]))
        assert means == pytest.approx(scores, abs=TOLERANCE)
        assert means["cider_d"] == 0


def test_a_perfect_caption_among_others() -> None:
    corpus = TokenisedCorpus(["a red cat on a mat", "two dogs run"], [["a red cat on a mat"], ["two dogs run"]])
    each, means = computed(corpus)
    assert means["rouge_l"] == pytest.approx(1)
    assert means["bleu1"] == pytest.approx(1, abs=1e-8)
    # Orders that a caption of three words lacks count as no agreement: 10 * (1 + 1 + 1 + 0) / 4.
    np.testing.assert_allclose(each["cider_d"], [10, 7.5])


def test_bleu_takes_the_closest_reference_and_of_two_the_shorter() -> None:
    counts = TokenisedCorpus(["a b c d"], [["a b", "a b c d e f", "a b c d e f g"]]).bleu()
    assert counts.reference_length.tolist() == [2]
    assert counts.matches.tolist() == [[4, 3, 2, 1]]


def test_length_and_repetition_are_punished_by_cider_d_only() -> None:
    references = [["a cat on a mat"], ["two dogs run"], ["one bird"]]
    good = TokenisedCorpus(["a cat on a mat", "x", "y"], references)
    long = TokenisedCorpus(["a cat on a mat mat mat mat", "x", "y"], references)
    assert long.cider_d()[0] < good.cider_d()[0] - 1
    assert long.cider()[0] > long.cider_d()[0] + 1


def test_long_captions() -> None:
    words = [f"w{i % 90}" for i in range(300)]
    corpus = TokenisedCorpus([" ".join(words)], [[" ".join(words[::2])]])
    # Every second word in order: recall 1, precision one half.
    assert corpus.rouge_l()[0] == pytest.approx((1 + 1.44) * 0.5 / (1 + 1.44 * 0.5))


def test_ngrams_do_not_cross_sentences() -> None:
    bags = count_ngrams(number_words(["a b a b", "", "b", "a b"]))
    assert [len(bag.count) for bag in bags] == [2 + 1 + 2, 2 + 1, 2, 1]
    assert bags[1].count.tolist() == [2, 1, 1]
    assert bags[1].sentence.tolist() == [0, 0, 3]
    parts = bags[1].part(0, 1), bags[1].part(1, 4)
    assert parts[1].sentence.tolist() == [2]
    shared_rows = shared_ngrams(parts[0], parts[1], one_to_one_pairs([3]))
    assert shared_rows.pair.tolist() == [2]
    assert parts[0].count[shared_rows.in_hypothesis].tolist() == [2]


@pytest.mark.parametrize(
    ("said", "given", "message"),
    [
        ([], [], "no captions to score"),
        (["a"], [["a"], ["b"]], "1 captions but references for 2"),
        (["a", "b"], [["a"], []], "caption 1 has no reference"),
    ],
)
def test_faults_are_named(said: list[str], given: list[list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TokenisedCorpus(said, given)
