from __future__ import annotations

import numpy as np
import pytest

from clipvil.datasets import pretraining
from clipvil.datasets.pretraining import PretrainingBuilder, PretrainingSequence
from clipvil.errors import DataError
from clipvil.records import PretrainingPair


def test_what_was_added_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random pairs, with a buffer so small that every column goes through its file."""
    monkeypatch.setattr(pretraining, "_SPOOL", 3)
    rng = np.random.default_rng(0)
    words = ["", "caf\u00e9", "\U0001f436\U0001f436", "a b", "x" * 50]
    builder, expected, counts = PretrainingBuilder(), [], {}
    for _ in range(300):
        image, source = f"p{rng.integers(20)}", ("vqa", "vg")[rng.integers(2)]
        sentence = " ".join(words[i] for i in rng.integers(5, size=rng.integers(4)))
        labels = {words[i]: float(rng.random()) for i in rng.integers(5, size=rng.integers(3))}
        builder.add(image, sentence, source, labels)
        number = counts[image, source] = counts.get((image, source), -1) + 1
        expected.append(
            PretrainingPair(f"{image}_{source}_{number:03d}", image, sentence, source, tuple(labels.items()))
        )
    found = builder.finish()
    assert list(found) == expected
    assert [found.sentence(place) for place in range(300)] == [pair.sentence for pair in expected]
    rows = rng.permutation(300)[:100]
    chosen = found.select(rows).select(np.arange(50)[::-1])
    assert list(chosen) == [expected[row] for row in rows[:50][::-1]]
    assert chosen.column("image_id") == [pair.image_id for pair in chosen]
    assert chosen.column("uid") == [pair.uid for pair in chosen]
    assert chosen.image_ids() == list(dict.fromkeys(pair.image_id for pair in chosen))
    wanted: dict[str, dict[str, int]] = {}
    for pair in chosen:
        for answer, _ in pair.labels:
            by_answer = wanted.setdefault(pair.source, {})
            by_answer[answer] = by_answer.get(answer, 0) + 1
    assert chosen.answer_counts() == wanted
    order, ends = chosen.by_picture
    for part in np.split(order, ends[:-1]):
        assert len({chosen[int(place)].image_id for place in part}) == 1
    assert sorted(order.tolist()) == list(range(50)) and len(ends) == len(chosen.image_ids())


def test_equal_pairs_equal_fingerprints() -> None:
    def table(sentence: str, score: float = 1.0) -> PretrainingSequence:
        builder = PretrainingBuilder()
        builder.add("p", sentence, "vqa", {"yes": score})
        return builder.finish()

    assert table("a").fingerprint == table("a").fingerprint
    assert len({table("a").fingerprint, table("b").fingerprint, table("a", 0.5).fingerprint}) == 3


def test_no_pairs_and_too_many_sources() -> None:
    empty = PretrainingBuilder().finish()
    assert len(empty) == 0 and list(empty) == [] and empty.answer_counts() == {} and empty.image_ids() == []
    builder = PretrainingBuilder()
    with pytest.raises(DataError, match="more than 256 sources"):
        for number in range(257):
            builder.add("p", "s", f"source {number}", {})


def test_arrays_that_do_not_fit_are_refused() -> None:
    builder = PretrainingBuilder()
    builder.add("p", "s", "vqa", {"yes": 1.0})
    whole = dict(builder.finish().arrays)
    for name, value in (
        ("sentence.ends", np.array([5], dtype=np.uint64)),
        ("picture.codes", np.array([3], dtype=np.uint32)),
        ("label.scores", np.empty(0)),
        ("index", np.empty(0, dtype=np.uint32)),
    ):
        with pytest.raises(ValueError, match="do not fit together"):
            PretrainingSequence({**whole, name: value})
    with pytest.raises(KeyError):
        PretrainingSequence({})


def test_a_mismatch_sorts_nothing() -> None:
    """Forked workers would each keep what one of them sorts."""
    builder = PretrainingBuilder()
    for number in range(40):
        builder.add(f"p{number // 20}", str(number), "vqa", {})
    found = builder.finish()
    generator = np.random.default_rng(0)
    drawn = {found.mismatch(3, generator) for _ in range(400)}
    assert drawn == set(range(20, 40))
    assert "by_picture" not in vars(found)
    assert found.select(np.array([0, 1, 39])).mismatch(0, generator) == 2
    with pytest.raises(DataError, match="about one picture"):
        found.select(np.arange(20)).mismatch(3, generator)


def test_two_pairs_with_one_id_are_refused() -> None:
    def build(*pairs: tuple[str, str]) -> PretrainingSequence:
        builder = PretrainingBuilder()
        for image, source in pairs:
            builder.add(image, "s", source, {})
        return builder.finish()

    for pairs in (
        [("1", "vqa_a"), ("1_vqa", "a")],
        [("1_vqa", "a"), ("2", "a"), ("1", "vqa_a")],
        [("1", "_"), ("1_", "")],
    ):
        with pytest.raises(DataError, match="would have the same ids"):
            build(*pairs)
    apart = build(("1", "vqa_a"), ("1_vqa", "b"), ("2_vqa", "a"), ("2", "a"), ("1_vqa", "vqa_a"))
    assert len({pair.uid for pair in apart}) == 5
