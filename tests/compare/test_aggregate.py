from __future__ import annotations

import numpy as np
import pytest

from clipvil.compare.aggregate import Aggregator
from clipvil.tasks.base import Score, Scores
from clipvil.training.run_files import RunResult


def _run(scores: dict[str, float], images: dict[str, str] | None = None) -> RunResult:
    images = images or {i: f"image-{i}" for i in scores}
    mean = float(np.mean(list(scores.values())))
    overall = Score(mean, len(scores), mean - 1, mean + 1)
    value = Scores("vqa_accuracy", "official", overall, {"answer_type": {"x": overall}}, scores, images)
    return RunResult({"seconds": {"training": 10.0 * len(scores)}}, {"test": value})


GROUPS = {f"q{i}": {"answer_type": "number" if i % 4 else "yes/no"} for i in range(40)}


def _scores(offset: float, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {f"q{i}": float(np.clip(50 + offset + rng.normal(0, 5), 0, 100)) for i in range(40)}


def test_a_row_averages_the_seeds_and_keeps_each() -> None:
    first, second = _scores(0, 0), _scores(4, 1)
    row = Aggregator().row("a", "vqa", "test", {3: _run(second), 1: _run(first)}, GROUPS)
    assert [s.seed for s in row.per_seed] == [1, 3]
    assert row.mean.value == pytest.approx(np.mean(list(first.values()) + list(second.values())))
    assert row.mean.low < row.mean.value < row.mean.high and row.mean.n == 40
    numbers = [np.mean([first[q], second[q]]) for q, g in GROUPS.items() if g["answer_type"] == "number"]
    assert row.breakdowns["answer_type"]["number"].value == pytest.approx(np.mean(numbers))
    assert {g: item.n for g, item in row.breakdowns["answer_type"].items()} == {"number": 30, "yes/no": 10}
    assert row.training_seconds == 400.0


def test_differences_are_paired_over_the_seeds_both_have() -> None:
    base = {0: _scores(0, 0), 1: _scores(0, 1)}
    gain = {q: 3 + 0.01 * (number % 2) for number, q in enumerate(base[0])}
    better = {seed: {q: v + gain[q] for q, v in scores.items()} for seed, scores in base.items()}
    better[2] = _scores(-40, 9)
    runs = {"better": {s: _run(v) for s, v in better.items()}, "base": {s: _run(v) for s, v in base.items()}}
    (pair,) = Aggregator().differences("vqa", "test", runs)
    # As good as constant a gain: pairing leaves nothing to chance, though the scores themselves spread by ten points.
    assert (pair.a, pair.b, pair.seeds) == ("better", "base", [0, 1])
    assert (pair.value, pair.low, pair.high) == pytest.approx((3.0, 3.0, 3.0), abs=0.01) and pair.significant
    assert pair.p < 0.01


def test_pictures_are_the_unit_that_is_redrawn() -> None:
    """Forty questions on two pictures tell far less than forty questions on forty pictures."""
    a = {f"q{i}": 100.0 if i < 20 else 0.0 for i in range(40)}
    b = dict.fromkeys(a, 40.0)
    two = {q: "left" if score else "right" for q, score in a.items()}
    many = Aggregator().differences("vqa", "test", {"a": {0: _run(a)}, "b": {0: _run(b)}})[0]
    few = Aggregator().differences("vqa", "test", {"a": {0: _run(a, two)}, "b": {0: _run(b, two)}})[0]
    assert many.value == few.value == pytest.approx(10.0)
    assert few.high - few.low > 2 * (many.high - many.low)


def test_records_that_only_one_encoder_could_use_are_left_out_of_the_pair() -> None:
    a = {"q1": 100.0, "q2": 0.0, "q3": 50.0}
    b = {"q2": 50.0, "q3": 50.0}
    (pair,) = Aggregator().differences("vqa", "test", {"a": {0: _run(a)}, "b": {0: _run(b)}})
    assert pair.n == 2 and pair.value == pytest.approx(-25.0)


def test_encoders_without_a_common_seed_are_not_compared() -> None:
    assert not Aggregator().differences("vqa", "test", {"a": {0: _run({"q": 1.0})}, "b": {1: _run({"q": 1.0})}})


def test_one_picture_alone_gives_the_widest_interval_and_not_infinity() -> None:
    row = Aggregator().row("a", "vqa", "test", {0: _run({"q1": 30.0, "q2": 60.0}, {"q1": "i", "q2": "i"})}, {})
    assert (row.mean.low, row.mean.high) == (0.0, 100.0)
