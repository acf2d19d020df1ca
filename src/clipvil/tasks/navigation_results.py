"""Judging walks: success rate with its interval, the other metrics beside it, by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from clipvil.datasets.base import Row
from clipvil.datasets.trajectories import Route, Walk, match
from clipvil.errors import DataError
from clipvil.metrics.navigation import METRES, METRICS, Shortest
from clipvil.metrics.statistics import bootstrap_mean
from clipvil.records import Episode
from clipvil.simulator.graph import Graph
from clipvil.tasks.base import Prediction, Score, Scores
from clipvil.tasks.navigation_scores import score_routes

METRIC = "success rate"
MODE = "R2R"
FILE = "the predictions"


def routes_of(
    predictions: Sequence[Prediction], records: Sequence[Episode], graphs: Mapping[str, Graph]
) -> list[Route]:
    """Predictions beside their episodes, checked step by step; see `datasets.trajectories.match`. Raises DataError."""
    walks: dict[str, Walk] = {}
    for number, prediction in enumerate(predictions, start=1):
        if prediction.record_id in walks:
            raise DataError(f"episode {prediction.record_id} has two predictions")
        if not prediction.output.split():
            raise DataError(f"the walk of episode {prediction.record_id} is empty")
        row = Row({}, FILE, number)
        walks[prediction.record_id] = Walk(prediction.record_id, tuple(prediction.output.split()), row)
    return match(walks, records, graphs, file=FILE)


def score_walks(
    predictions: Sequence[Prediction],
    records: Sequence[Episode],
    graphs: Mapping[str, Graph],
    *,
    shortest: str = "graph",
) -> Scores:
    """Success rate in percent; `metric` holds the other shares, also in percent, `metres` what is measured in metres.

    Intervals redraw paths with all their instructions. Raises DataError as `routes_of`.
    """
    found = score_routes(routes_of(predictions, records, graphs), shortest=cast(Shortest, shortest))
    clusters = [record.image_id for record in records]
    reached = 100.0 * found.values["SR"]
    others: dict[str, dict[str, Score]] = {"metric": {}, "metres": {}}
    for name in METRICS:
        factor = 1.0 if name in METRES else 100.0
        mean, low, high = (factor * float(value) for value in found.means[name])
        bounds = (low, high) if np.isfinite([low, high]).all() else (mean, mean)
        if name != "SR":
            others["metres" if name in METRES else "metric"][name] = Score(mean, len(records), *bounds)
    breakdowns = others
    for language in found.languages:
        rows = [i for i, record in enumerate(records) if record.language == language]
        value, low, high = bootstrap_mean(reached[rows], [clusters[i] for i in rows])
        breakdowns.setdefault("language", {})[language] = Score(value, len(rows), low, high)
    value, low, high = bootstrap_mean(reached, clusters)
    return Scores(
        METRIC,
        MODE,
        Score(value, len(records), low, high),
        breakdowns,
        {record.episode_id: float(score) for record, score in zip(records, reached, strict=True)},
        {record.episode_id: cluster for record, cluster in zip(records, clusters, strict=True)},
    )
