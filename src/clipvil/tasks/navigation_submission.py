"""Submission files of navigation from predictions: the camera turns between moves follow from the walk itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clipvil.datasets.trajectories import Step, write_r2r, write_rxr
from clipvil.errors import UsageError
from clipvil.records import Episode
from clipvil.simulator.agents import toward, written
from clipvil.simulator.graph import Graph
from clipvil.simulator.simulator import Simulator
from clipvil.simulator.world import World
from clipvil.tasks.base import Prediction
from clipvil.tasks.navigation_results import routes_of

SERVERS = ("r2r", "rxr")


def write_walks(
    server: str,
    predictions: Sequence[Prediction],
    records: Sequence[Episode],
    graphs: Mapping[str, Graph],
    path: Path,
) -> int:
    """Write the file of R2R's server, with every camera turn, or of RxR's, with viewpoints alone; how many walks.

    Every step is checked against the graph first. Raises DataError as `routes_of`, UsageError for another server.
    """
    if server not in SERVERS:
        raise UsageError(f"unknown navigation server '{server}'; known are {', '.join(SERVERS)}")
    routes = routes_of(predictions, records, graphs)
    world = World(graphs, dict.fromkeys(record.scan for record in records))
    walks: dict[str, list[Step]] = {}
    for route in routes:
        walks[route.episode.episode_id] = _turned(world, route.episode, route.predicted, server == "r2r")
    (write_r2r if server == "r2r" else write_rxr)(walks, path)
    return len(walks)


def _turned(world: World, episode: Episode, places: Sequence[int], turns: bool) -> list[Step]:
    """The walk as the agent made it: every move ends in the view that shows the place it leads to."""
    simulator = Simulator(world)
    offset = world.find(episode.scan, episode.path[0]) - world.graph(episode.scan).find(episode.path[0])
    numbers = [offset + place for place in places]
    simulator.start(numbers[:1], episode.heading)
    views = [int(simulator.view[0])]
    for there in numbers[1:]:
        simulator.go(toward(simulator.candidates(), np.array([there])))
        views.append(int(simulator.view[0]))
    return written(world, numbers, views, turns=turns)
