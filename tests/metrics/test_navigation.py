from __future__ import annotations

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.metrics.navigation import METRICS, navigation_scores, without_repeats
from tests.simulator.recorded import fixture, fixture_graphs

POINTS = [(x, y) for x in range(3) for y in range(4)]
NUMBER = {point: number for number, point in enumerate(POINTS)}
GRID = np.array([[abs(a[0] - b[0]) + abs(a[1] - b[1]) for b in POINTS] for a in POINTS], float)
TALL = [(x, y) for x in range(4) for y in range(3)]
TALL_NUMBER = {point: number for number, point in enumerate(TALL)}
TALL_GRID = np.array([[abs(a[0] - b[0]) + abs(a[1] - b[1]) for b in TALL] for a in TALL], float)


def _one(predicted: str, reference: str) -> dict[str, float]:
    paths = [[TALL_NUMBER[int(p[0]), int(p[1])] for p in text.split()] for text in (predicted, reference)]
    found = navigation_scores(lambda a, b: TALL_GRID[a, b], [paths[0]], [paths[1]])
    return {name: float(values[0]) for name, values in found.items()}


def test_recorded_values_of_the_official_evaluators() -> None:
    kept = fixture("evaluator.json")
    found = {name: [] for name in METRICS}
    for item in kept["items"]:
        graph, expected = fixture_graphs()[item["scan"]], item["expected"]
        walked = [graph.index[step[0]] for step in item["trajectory"]]
        reference = [graph.index[name] for name in item["reference"]]

        def between(a, b, graph=graph):
            return graph.distance[a, b]

        scores = navigation_scores(between, [walked], [reference])
        for name in METRICS:
            assert scores[name][0] == pytest.approx(expected[name], rel=1e-9, abs=1e-12), (item["instr_id"], name)
            found[name].append(float(scores[name][0]))
        raw = navigation_scores(between, [walked], [reference], repeats=True)
        assert raw["nDTW"][0] == pytest.approx(expected["nDTW_with_repeats"], rel=1e-9)
        assert raw["CLS"][0] == pytest.approx(expected["CLS_with_repeats"], rel=1e-9)
    for name in METRICS:
        assert np.mean(found[name]) == pytest.approx(kept["means"][name], rel=1e-9)


def test_values_of_google_s_doctests() -> None:
    apart = _one("00 10 20 30", "00 10 21 32")
    assert apart["nDTW"] == pytest.approx(0.7788007831) and apart["sDTW"] == pytest.approx(0.7788007831)
    assert _one("00 10", "00 10 21 32")["sDTW"] == 0.0
    reference = "00 10 11 21 22 32"
    assert _one(reference, reference)["CLS"] == pytest.approx(1.0)
    # The doctests name the two paths in the order of the other signature, so the roles are swapped here.
    assert _one(reference, "00 01 11 21 31 32")["CLS"] == pytest.approx(0.8199491513)
    assert _one(reference, "01 11 21 31")["CLS"] == pytest.approx(0.4419719610)


def test_a_batch_gives_what_single_episodes_give() -> None:
    generator = np.random.default_rng(1)
    paths = [[generator.integers(0, 12, generator.integers(1, 20)).tolist() for _ in range(2)] for _ in range(40)]
    said, right = [pair[0] for pair in paths], [pair[1] for pair in paths]
    together = navigation_scores(lambda a, b: GRID[a, b], said, right)
    for number, (one, other) in enumerate(zip(said, right, strict=True)):
        alone = navigation_scores(lambda a, b: GRID[a, b], [one], [other])
        for name in METRICS:
            assert together[name][number] == pytest.approx(alone[name][0])


def test_the_margin_is_strict_and_spl_can_take_the_reference_s_length() -> None:
    stopped = _one("00", "00 10 20 30")
    assert stopped["NE"] == 3.0 and stopped["SR"] == 0.0 and stopped["OSR"] == 0.0
    detour = [[TALL_NUMBER[0, 0], TALL_NUMBER[1, 0]]], [[TALL_NUMBER[p] for p in ((0, 0), (0, 1), (1, 1), (1, 0))]]
    official = navigation_scores(lambda a, b: TALL_GRID[a, b], *detour)
    other = navigation_scores(lambda a, b: TALL_GRID[a, b], *detour, shortest="reference")
    assert official["SPL"][0] == 1.0 and other["SPL"][0] == 1.0
    longer = [detour[1][0]], detour[0]
    assert navigation_scores(lambda a, b: TALL_GRID[a, b], *longer)["SPL"][0] == pytest.approx(1 / 3)
    both = [detour[1][0]], [detour[1][0]]
    assert navigation_scores(lambda a, b: TALL_GRID[a, b], *both)["SPL"][0] == pytest.approx(1 / 3)
    assert navigation_scores(lambda a, b: TALL_GRID[a, b], *both, shortest="reference")["SPL"][0] == 1.0


def test_nothing_to_walk_and_nothing_walked_is_perfect() -> None:
    assert _one("11", "11") == {**dict.fromkeys(METRICS, 1.0), "PL": 0.0, "NE": 0.0, "OE": 0.0, "SPL": 0.0}


def test_repeats_are_turns() -> None:
    assert without_repeats([3, 3, 4, 4, 3]) == [3, 4, 3]


def test_what_cannot_be_scored_is_named() -> None:
    with pytest.raises(DataError, match="episode 1 has an empty predicted path"):
        navigation_scores(lambda a, b: GRID[a, b], [[1], []], [[1], [1]])
    with pytest.raises(DataError, match="no way in the graph"):
        navigation_scores(lambda a, b: np.full(a.shape, np.inf), [[1]], [[2]])
