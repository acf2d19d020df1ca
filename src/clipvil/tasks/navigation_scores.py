"""Navigation metrics of whole files, with intervals clustered by path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clipvil.datasets.trajectories import Route
from clipvil.errors import DataError
from clipvil.metrics.navigation import METRES, METRICS, Shortest, navigation_scores
from clipvil.metrics.statistics import bootstrap_mean

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NavigationScores:
    """Every metric of every episode (`values[name]`, in the order of `episodes`) and the mean with its interval."""

    episodes: tuple[str, ...]
    values: Mapping[str, Floats]
    means: Mapping[str, tuple[float, float, float]]
    """Name -> (mean, low, high) at 95 %; instructions of one path are drawn together."""
    languages: Mapping[str, Mapping[str, float]]
    """Means by language, where there are several."""

    def to_json(self) -> dict[str, Any]:
        """`mean`, `interval`, `n`, `per_episode`, and `per_language` where there are several."""
        finite = {name: [low, high] for name, (_, low, high) in self.means.items() if np.isfinite([low, high]).all()}
        out: dict[str, Any] = {
            "n": len(self.episodes),
            "mean": {name: self.means[name][0] for name in METRICS},
            "interval": finite,
            "per_episode": {
                key: {name: float(self.values[name][number]) for name in METRICS}
                for number, key in enumerate(self.episodes)
            },
        }
        if self.languages:
            out["per_language"] = {key: dict(value) for key, value in self.languages.items()}
        return out


def score_routes(routes: Sequence[Route], *, shortest: Shortest = "graph") -> NavigationScores:
    """Score checked trajectories.

    Raises DataError where there are none, an episode's ends are not joined, or no episode has a goal: official test
    sets hold the start alone, and walks away from it would be scored as if it were the goal.
    """
    if not routes:
        raise DataError("no episodes to score")
    if all(len(route.reference) == 1 for route in routes):
        raise DataError(
            "the paths of all episodes hold the start alone, as those of test sets do: there is no goal to score by",
            fix="score a split whose paths are whole; a test set is judged by its server",
        )
    values = {name: np.empty(len(routes)) for name in METRICS}
    scans: dict[str, list[int]] = {}
    for number, route in enumerate(routes):
        scans.setdefault(route.graph.scan, []).append(number)
    for numbers in scans.values():
        graph = routes[numbers[0]].graph
        part = navigation_scores(
            lambda a, b, graph=graph: graph.distance[a, b],  # type: ignore[misc]
            [routes[n].predicted for n in numbers],
            [routes[n].reference for n in numbers],
            shortest=shortest,
        )
        for name in METRICS:
            values[name][numbers] = part[name]
    clusters = [(route.graph.scan, route.episode.path) for route in routes]
    # Metres have no upper end, so a mean of few or equal lengths gets no interval: a scale that nothing is on.
    means = {
        name: bootstrap_mean(values[name], clusters, scale=(-1.0, -1.0) if name in METRES else (0.0, 1.0))
        for name in METRICS
    }
    spoken = [route.episode.language for route in routes]
    languages = sorted(set(spoken)) if len(set(spoken)) > 1 else []
    by_language = {
        language: {name: float(values[name][[said == language for said in spoken]].mean()) for name in METRICS}
        for language in languages
    }
    return NavigationScores(tuple(route.episode.episode_id for route in routes), values, means, by_language)
