from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.errors import DataError
from clipvil.metrics import statistics
from clipvil.metrics.statistics import average_runs, bootstrap_mean, paired_difference, summarise_seeds


def test_interval_of_single_records_is_the_textbook_one() -> None:
    values = np.random.default_rng(1).normal(50, 10, size=2000)
    mean, low, high = bootstrap_mean(values, range(2000), n=4000)
    error = values.std(ddof=1) / math.sqrt(2000)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def test_equals_a_plain_bootstrap_when_every_cluster_has_one_record() -> None:
    values = np.random.default_rng(2).choice([0.0, 30.0, 60.0, 100.0], size=300)
    generator = np.random.default_rng(3)
    plain = np.array([generator.choice(values, size=300).mean() for _ in range(4000)])
    _, low, high = bootstrap_mean(values, range(300), n=4000)
    assert low == pytest.approx(np.quantile(plain, 0.025), abs=0.35)
    assert high == pytest.approx(np.quantile(plain, 0.975), abs=0.35)


def test_repeating_every_record_within_its_cluster_changes_nothing() -> None:
    values = np.random.default_rng(4).normal(size=200)
    once = bootstrap_mean(values, range(200))
    thrice = bootstrap_mean(np.repeat(values, 3), np.repeat(np.arange(200), 3).tolist())
    assert thrice == pytest.approx(once, abs=1e-9)
    _, low, high = bootstrap_mean(np.repeat(values, 3), range(600))
    assert high - low < 0.7 * (once[2] - once[1])  # what ignoring the clusters would pretend


def test_drawing_kinds_and_drawing_clusters_are_the_same_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    clusters = generator.integers(0, 400, size=1500).tolist()
    values = generator.choice([0.0, 100.0], size=1500)
    grouped = bootstrap_mean(values, clusters, n=8000)
    monkeypatch.setattr(statistics, "_GROUPED", 10**9)
    plain = bootstrap_mean(values, clusters, n=8000)
    assert plain[0] == grouped[0]
    width = plain[2] - plain[1]
    assert grouped[1] == pytest.approx(plain[1], abs=0.06 * width)
    assert grouped[2] == pytest.approx(plain[2], abs=0.06 * width)


def test_coverage_with_clusters_of_different_sizes() -> None:
    generator = np.random.default_rng(6)
    hits = 0
    for trial in range(200):
        sizes = generator.integers(1, 8, size=80)
        own = np.repeat(generator.normal(size=80), sizes)  # mean 0: records of a cluster share most of their value
        values = own + 0.3 * generator.normal(size=len(own))
        _, low, high = bootstrap_mean(values, np.repeat(np.arange(80), sizes).tolist(), n=400, seed=trial)
        hits += low <= 0 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(7).normal(size=50)
    assert bootstrap_mean(values, range(50)) == bootstrap_mean(values, range(50))
    assert bootstrap_mean(values, range(50)) != bootstrap_mean(values, range(50), seed=1)


def test_constant_values_and_a_single_cluster() -> None:
    assert bootstrap_mean([1.0, 3.0], "aa") == (2, -math.inf, math.inf)
    # Rule of three: of thirty pictures none was different, so at 95 % at most 9.5 % are.
    assert bootstrap_mean([100.0] * 30, range(30)) == pytest.approx((100, 100 * 0.05 ** (1 / 30), 100))
    assert bootstrap_mean([50.0] * 30, range(30)) == pytest.approx((50, 50 - 4.7517, 50 + 4.7517), abs=1e-3)


def test_few_pictures_have_the_exact_limits_of_a_share() -> None:
    """Textbook values of Clopper and Pearson: 1 of 3 lies between 0.84 and 90.57 %, 0 of 5 below 52.18 %."""
    assert bootstrap_mean([100.0, 0.0, 0.0], "abc") == pytest.approx((100 / 3, 0.840, 90.57), abs=0.01)
    assert bootstrap_mean([0.0] * 5, "abcde") == pytest.approx((0, 0, 52.18), abs=0.01)
    assert bootstrap_mean([100.0 / 3] * 3, "abc")[1:] == pytest.approx((0.840, 90.57), abs=0.01)
    assert bootstrap_mean([150.0, 0.0], "ab")[1:] == (-math.inf, math.inf)  # off the scale
    assert bootstrap_mean([1.5, 0.0], "ab", scale=(0, 10))[2] < 10


@pytest.mark.parametrize("pictures", [2, 5, 9, 12])
def test_coverage_with_few_pictures(pictures: int) -> None:
    """Nine of ten questions right, one a picture: the plain percentile interval would miss 90 in up to four of five."""
    generator = np.random.default_rng(8)
    hits = 0
    for trial in range(200):
        values = 100.0 * (generator.random(pictures) < 0.9)
        _, low, high = bootstrap_mean(values, range(pictures), n=200, seed=trial)
        hits += low <= 90 <= high
    assert hits / 200 >= (0.93 if pictures < statistics.FEW else 0.85)


def test_few_pictures_give_no_small_p() -> None:
    ids = ("1", "2", "3")
    found = paired_difference(dict.fromkeys(ids, 100.0), dict.fromkeys(ids, 0.0), {i: i for i in ids})
    assert found.p == 0.25  # one of four pairs of signs is as extreme
    assert found.low < 0 < found.value <= found.high == 100
    same = paired_difference(dict.fromkeys(ids, 30.0), dict.fromkeys(ids, 30.0), {i: i for i in ids})
    assert same.p == 1 and same.low < -50 and same.high > 50


def test_two_runs_that_agree_everywhere_may_still_differ_a_little() -> None:
    ids = [str(i) for i in range(1000)]
    found = paired_difference(dict.fromkeys(ids, 60.0), dict.fromkeys(ids, 60.0), {i: i for i in ids})
    assert (found.value, found.p) == (0, 1)
    assert (found.low, found.high) == pytest.approx((-0.2991, 0.2991), abs=1e-3)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [([], [], "no values"), ([1.0], ["a", "b"], "1 values but 2"), ([1.0, math.nan], ["a", "b"], "value 1 is not")],
)
def test_bad_input(values: list[float], clusters: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bootstrap_mean(values, clusters)


def _runs(shift: float, n: int = 400) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    generator = np.random.default_rng(8)
    base = generator.normal(50, 20, size=n)
    a = {str(i): float(base[i] + shift + generator.normal(0, 3)) for i in range(n)}
    b = {str(i): float(base[i] + generator.normal(0, 3)) for i in range(n)}
    return a, b, {str(i): str(i // 4) for i in range(n)}


def test_pairing_finds_what_two_separate_intervals_would_hide() -> None:
    a, b, clusters = _runs(1.5)
    difference = paired_difference(a, b, clusters)
    assert difference.value == pytest.approx(np.mean(list(a.values())) - np.mean(list(b.values())))
    assert 0 < difference.low < difference.value < difference.high
    assert difference.p < 0.01
    assert difference.n == 400
    one = bootstrap_mean(list(a.values()), [clusters[i] for i in a])
    assert one[2] - one[1] > 2.0  # each run alone is far less sure


def test_no_difference() -> None:
    a, _, clusters = _runs(0)
    same = paired_difference(a, a, clusters)
    assert (same.value, same.p) == (0, 1)
    assert -same.low == pytest.approx(same.high) and 0 < same.high < 5
    a, b, clusters = _runs(0)
    assert paired_difference(a, b, clusters).p > 0.05


def test_the_other_way_round_is_the_mirror_image() -> None:
    a, b, clusters = _runs(1.0)
    there, back = paired_difference(a, b, clusters), paired_difference(b, a, clusters)
    assert (back.value, back.p) == (-there.value, there.p)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.1)


def test_p_is_never_zero_and_runs_must_agree_on_records() -> None:
    a, b, clusters = _runs(30)
    assert paired_difference(a, b, clusters, n=500).p == pytest.approx(2 / 501)
    b.pop("7")
    with pytest.raises(DataError, match="record 7 was scored in only one"):
        paired_difference(a, b, clusters)
    with pytest.raises(DataError, match="belongs to no picture"):
        paired_difference(a, a, {})


def test_p_values_are_uniform_under_no_difference() -> None:
    generator = np.random.default_rng(9)
    clusters = {str(i): str(i // 2) for i in range(120)}
    small = 0
    for trial in range(150):
        a = {key: float(v) for key, v in zip(clusters, generator.normal(size=120), strict=True)}
        b = {key: float(v) for key, v in zip(clusters, generator.normal(size=120), strict=True)}
        small += paired_difference(a, b, clusters, n=400, seed=trial).p < 0.1
    assert 0.03 <= small / 150 <= 0.18


def test_seeds_are_averaged_and_their_spread_stands_beside_the_interval() -> None:
    a, b, clusters = _runs(2.0)
    summary = summarise_seeds([a, b], clusters)
    means = [float(np.mean(list(run.values()))) for run in (a, b)]
    assert summary.per_seed == pytest.approx(means)
    assert summary.value == pytest.approx(np.mean(means))
    assert summary.spread == pytest.approx(abs(means[0] - means[1]) / math.sqrt(2))
    assert summary.low < summary.value < summary.high
    assert summarise_seeds([a], clusters).spread is None
    assert average_runs([a, b])["3"] == pytest.approx((a["3"] + b["3"]) / 2)
    with pytest.raises(DataError, match="record 3 was not scored in all"):
        average_runs([a, {k: v for k, v in b.items() if k != "3"}])
    with pytest.raises(DataError, match="no runs"):
        average_runs([])


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 30)), min_size=1, max_size=60))
def test_interval_stays_within_the_values_or_where_they_are_few_the_scale(rows: list[tuple[float, int]]) -> None:
    values, clusters = [v for v, _ in rows], [c for _, c in rows]
    mean, low, high = bootstrap_mean(values, clusters, n=50)
    assert min(values) - 1e-6 <= mean <= max(values) + 1e-6
    if len(set(clusters)) >= statistics.FEW and max(values) - min(values) > 1e-3:
        assert -1e-6 <= low <= high <= 100 + 1e-6
    elif len(set(clusters)) > 1:
        assert -1e-6 <= low <= mean + 1e-6 and mean - 1e-6 <= high <= 100 + 1e-6 and high - low > 1
