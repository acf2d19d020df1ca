"""What agents walked: submission files of R2R and RxR, read strictly and written.

R2R (EvalAI): a JSON list of {"instr_id", "trajectory": [[viewpoint, heading, elevation], ...]}, turns on the spot
included or not. RxR: JSON lines of {"instruction_id", "path": [viewpoint, ...]}; its two field names are those of the
VLN-CE inference writer, the discrete track's own are not documented.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Row
from clipvil.datasets.episodes import GraphMap, episode_rows
from clipvil.errors import DataError
from clipvil.files import atomic_write, atomic_write_json
from clipvil.records import Episode
from clipvil.simulator.graph import Graph, find_graph

Step = tuple[str, float, float]
_IDS = ("instr_id", "instruction_id", "record_id")
_PATHS = ("trajectory", "path")


@dataclass(frozen=True)
class Walk:
    """A predicted trajectory: the episode's id, its viewpoints in order (turns repeat one), and where it was read."""

    episode_id: str
    viewpoints: tuple[str, ...]
    row: Row


@dataclass(frozen=True)
class Route:
    """One episode ready to be scored: graph, and predicted and reference path as indices of it."""

    episode: Episode
    graph: Graph
    predicted: tuple[int, ...]
    reference: tuple[int, ...]


def read_walks(path: str | Path) -> dict[str, Walk]:
    """Predicted trajectories by episode id, in file order, of either format.

    Raises DataError naming file, row and field: for an empty trajectory, an element that is not one viewpoint, an id
    that comes twice.
    """
    out: dict[str, Walk] = {}
    for row in episode_rows(path):
        name = next((name for name in _IDS if name in row.value), _IDS[0])
        key = row.identifier(name)
        if key in out:
            raise row.error(f"episode {key} already has a trajectory in row {out[key].row.row}", name)
        field = next((field for field in _PATHS if field in row.value), _PATHS[0])
        steps = row.raw(field)
        if not isinstance(steps, list):
            raise row.error("must be a list", field)
        if not steps:
            raise row.error(f"the trajectory of {key} is empty", field, "it must hold the start viewpoint at least")
        places = tuple(_viewpoint(row, step, number, field) for number, step in enumerate(steps, start=1))
        out[key] = Walk(key, places, row)
    if not out:
        raise DataError("holds no trajectories", file=path)
    return out


def _viewpoint(row: Row, step: Any, number: int, field: str) -> str:
    """The viewpoint of one element: an id, or [id, heading, elevation]."""
    if isinstance(step, str):
        return row.checked_text(step, field)
    if not isinstance(step, list) or not step:
        raise row.error(f"element {number} must be a viewpoint id or [viewpoint, heading, elevation]", field)
    name = row.checked_text(step[0], field)
    if any(isinstance(value, str) for value in step[1:]):
        raise row.error(f"element {number} holds several viewpoints", field, "write every hop as an element of its own")
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in step[1:])
    if len(step) not in (1, 3) or not numbers:
        raise row.error(f"element {number} must be [viewpoint, heading, elevation], angles in radians", field)
    return name


def match(walks: Mapping[str, Walk], episodes: Sequence[Episode], graphs: GraphMap, *, file: str | Path) -> list[Route]:
    """Trajectories beside their episodes, in the order of the episodes, every step checked against the graph.

    Raises DataError for ids that are missing or unknown, an unknown scan or viewpoint, a trajectory that does not begin
    where its episode does, and a step that no edge makes: a hidden jump.
    """
    known = {episode.episode_id for episode in episodes}
    missing = [episode.episode_id for episode in episodes if episode.episode_id not in walks]
    if missing:
        raise DataError(f"{len(missing)} of {len(known)} episodes have no trajectory: {_some(missing)}", file=file)
    unknown = [key for key in walks if key not in known]
    if unknown:
        raise DataError(f"{len(unknown)} trajectories belong to no episode: {_some(unknown)}", file=file)
    return [_route(walks[episode.episode_id], episode, graphs) for episode in episodes]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def _route(walk: Walk, episode: Episode, graphs: GraphMap) -> Route:
    try:
        graph = find_graph(graphs, episode.scan)
        reference = tuple(graph.find(name) for name in episode.path)
    except DataError as error:
        raise DataError(f"episode {episode.episode_id}: {error}") from None
    try:
        predicted = tuple(graph.find(name) for name in walk.viewpoints)
    except DataError as error:
        raise walk.row.error(f"trajectory of {walk.episode_id}: {error}") from None
    if predicted[0] != reference[0]:
        raise walk.row.error(
            f"trajectory of {walk.episode_id} begins at {walk.viewpoints[0]}, its episode at {episode.path[0]}"
        )
    for number, (here, there) in enumerate(itertools.pairwise(predicted), start=1):
        if here != there and not graph.adjacent[here, there]:
            raise walk.row.error(_jump(walk, graph, here, there, number), fix="write every viewpoint that is passed")
    return Route(episode, graph, predicted, reference)


def _jump(walk: Walk, graph: Graph, here: int, there: int, number: int) -> str:
    a, b = graph.viewpoints[here], graph.viewpoints[there]
    what = f"trajectory of {walk.episode_id}: hidden jump from element {number} to the next: no edge from {a} to {b}"
    if graph.next_hop[here, there] < 0:
        return f"{what}, and no way leads there"
    return f"{what}, the shortest way has {len(graph.shortest_path(here, there)) - 1} edges"


def write_r2r(walks: Mapping[str, Sequence[Step]], path: str | Path) -> None:
    """Write a submission for R2R's server: (viewpoint, heading, elevation) steps by episode id, radians."""
    rows = [
        {
            "instr_id": key,
            "trajectory": [[name, float(heading), float(elevation)] for name, heading, elevation in steps],
        }
        for key, steps in walks.items()
    ]
    atomic_write_json(path, rows, indent=None)


def write_rxr(walks: Mapping[str, Sequence[Step]], path: str | Path) -> None:
    """Write a submission for RxR's server: one line an instruction, sorted by id; turns on the spot are left out."""
    keys = sorted(walks, key=lambda key: (0, int(key), key) if key.isdecimal() else (1, 0, key))
    with atomic_write(path) as stream:
        for key in keys:
            places = [step[0] for step in walks[key]]
            moves = [name for i, name in enumerate(places) if i == 0 or name != places[i - 1]]
            line = {"instruction_id": int(key) if key.isdecimal() else key, "path": moves}
            stream.write(json.dumps(line).encode() + b"\n")
