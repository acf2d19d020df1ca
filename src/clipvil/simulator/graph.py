"""Navigation graphs from connectivity files, with the distances and next hops of every pair of viewpoints.

A file `<scan>_connectivity.json` is a list of viewpoints: `image_id`, `pose` (4 x 4, row by row; the position is its
last column, z up, metres), `included`, `visible` and `unobstructed` (one truth value a viewpoint). The place in the
list is the index of a viewpoint; viewpoints that are not included keep theirs. An edge joins two included viewpoints
whose `unobstructed` says so; it is as long as the straight line. Source: the connectivity README and the graph loader
of the Matterport3D simulator (peteanderson80/Matterport3DSimulator @ 589d091).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipvil.datasets.base import Row, parse_json, read_text
from clipvil.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
SUFFIX = "_connectivity.json"
_TIE = 1e-9
"""Two ways that differ by a smaller share of their length are looked at by the exact rule."""


@dataclass(frozen=True, eq=False)
class Graph:
    """One scan: N viewpoints in file order, those not included among them.

    viewpoints: N ids. included: (N,) bool. position: (N, 3) float64, metres, z up. neighbours: (N, K) int32, ascending
    indices of the viewpoints that an edge leads to, -1 where there are no more (K at least 1).
    """

    scan: str
    viewpoints: tuple[str, ...]
    included: npt.NDArray[np.bool_]
    position: Floats
    neighbours: Ints

    def __len__(self) -> int:
        return len(self.viewpoints)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Index by viewpoint id, viewpoints not included among them."""
        return {name: number for number, name in enumerate(self.viewpoints)}

    @cached_property
    def adjacent(self) -> npt.NDArray[np.bool_]:
        """(N, N) bool: whether an edge joins the two."""
        out = np.zeros((len(self), len(self)), bool)
        rows, slots = np.nonzero(self.neighbours >= 0)
        out[rows, self.neighbours[rows, slots]] = True
        return out

    @cached_property
    def degree(self) -> Ints:
        """(N,) int32: how many edges each viewpoint has."""
        return np.asarray((self.neighbours >= 0).sum(axis=1), np.int32)

    @cached_property
    def distance(self) -> Floats:
        """(N, N) float64: metres along the shortest way, infinite where there is none."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import dijkstra

        rows, slots = np.nonzero(self.neighbours >= 0)
        targets = self.neighbours[rows, slots]
        pointers = np.concatenate([[0], np.cumsum(self.degree)])
        lengths = self._edge_lengths[rows, slots]
        matrix = csr_matrix((lengths, targets, pointers), shape=(len(self), len(self)))
        out: Floats = dijkstra(matrix, directed=True)
        out[~self.included, :] = np.inf
        out[:, ~self.included] = np.inf
        return out

    @cached_property
    def _edge_lengths(self) -> Floats:
        """(N, K) float64: metres to each neighbour; infinite where there are no more."""
        offset = self.position[np.maximum(self.neighbours, 0)] - self.position[:, None]
        # Summed in the order of the original, so that the last bit agrees too.
        squares = offset[..., 0] ** 2 + offset[..., 1] ** 2 + offset[..., 2] ** 2
        return np.where(self.neighbours >= 0, np.sqrt(squares), np.inf)

    @cached_property
    def next_hop(self) -> Ints:
        """(N, N) int32: the viewpoint after the first on the shortest way from row to column, -1 where there is none.

        From a viewpoint to itself it is that viewpoint. Among ways of equal length the one is taken that Dijkstra's
        algorithm finds first when it visits neighbours in ascending order and equal distances in the order of their
        discovery, as the published agents' (networkx's) does.
        """
        size = len(self)
        reach = np.isfinite(self.distance)
        best = np.full((size, size), np.inf)
        out = np.full((size, size), -1, np.int32)
        ties = np.zeros(size, bool)
        for slot in range(self.neighbours.shape[1]):
            hop = self.neighbours[:, slot]
            through = self._edge_lengths[:, slot, None] + self.distance[np.maximum(hop, 0)]
            with np.errstate(invalid="ignore"):  # infinite minus infinite: no way at all, so no tie
                near = reach & (np.abs(through - best) <= _TIE * (1.0 + through))
                ties |= (near & (np.abs(through - self.distance) <= 2 * _TIE * (1.0 + through))).any(axis=1)
            better = through < best
            best = np.where(better, through, best)
            out = np.where(better, hop[:, None], out)
        out[~reach] = -1
        inside = np.flatnonzero(self.included)
        out[inside, inside] = inside
        for source in np.flatnonzero(ties):
            out[source] = self._first_hops(int(source))
        return out.astype(np.int32)

    def _first_hops(self, source: int) -> list[int]:
        """One row of `next_hop` by the exact rule; slow, so only where ways of equal length make it matter."""
        first, found = [-1] * len(self), [False] * len(self)
        seen = [math.inf] * len(self)
        seen[source], first[source] = 0.0, source
        queue, pushed = [(0.0, 0, source)], 1
        while queue:
            length, _, here = heapq.heappop(queue)
            if found[here]:
                continue
            found[here] = True
            for slot in range(int(self.degree[here])):
                there = int(self.neighbours[here, slot])
                total = length + float(self._edge_lengths[here, slot])
                if not found[there] and total < seen[there]:
                    seen[there] = total
                    first[there] = there if here == source else first[here]
                    heapq.heappush(queue, (total, pushed, there))
                    pushed += 1
        return first

    def shortest_path(self, start: int, goal: int) -> list[int]:
        """Indices from start to goal, both included. Raises DataError where no way leads there."""
        if self.next_hop[start, goal] < 0:
            raise DataError(
                f"scan {self.scan}: no way from {self.viewpoints[start]} to {self.viewpoints[goal]}",
            )
        path = [start]
        while path[-1] != goal:
            path.append(int(self.next_hop[path[-1], goal]))
        return path

    def find(self, viewpoint: str) -> int:
        """The index of an included viewpoint. Raises DataError where it is unknown or not included."""
        number = self.index.get(viewpoint)
        if number is None:
            raise DataError(f"scan {self.scan} has no viewpoint '{viewpoint}'")
        if not self.included[number]:
            raise DataError(f"scan {self.scan}: viewpoint {viewpoint} is not included in the graph")
        return number


class Graphs(Mapping[str, Graph]):
    """The graphs of a folder by scan, each read when it is first asked for and then kept."""

    def __init__(self, folder: str | Path) -> None:
        """Looks at file names only. Raises DataError where the folder holds no connectivity files."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError("no such folder", file=self.folder, fix="name the folder of the connectivity files")
        self._scans = sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}"))
        self._read: dict[str, Graph] = {}
        if not self._scans:
            raise DataError(f"holds no files *{SUFFIX}", file=self.folder)

    def __getitem__(self, scan: str) -> Graph:
        if scan not in self._read:
            if scan not in self:
                raise KeyError(scan)
            self._read[scan] = read_graph(self.folder / f"{scan}{SUFFIX}")
        return self._read[scan]

    def __contains__(self, scan: object) -> bool:
        return scan in self._read or scan in self._scans

    def __iter__(self) -> Iterator[str]:
        return iter(self._scans)

    def __len__(self) -> int:
        return len(self._scans)


def find_graph(graphs: Mapping[str, Graph], scan: str) -> Graph:
    """The graph of a scan. Raises DataError, naming some that are there, where it is unknown."""
    if scan not in graphs:
        some = ", ".join(list(graphs)[:3]) + (", ..." if len(graphs) > 3 else "")
        folder = getattr(graphs, "folder", None)
        raise DataError(f"no graph of the scan '{scan}'; there are {len(graphs)}: {some}", file=folder)
    return graphs[scan]


def read_graph(path: str | Path) -> Graph:
    """Read one connectivity file. Raises DataError naming file, row (a viewpoint, from 1) and field."""
    path = Path(path)
    value = parse_json(read_text(path), file=path)
    if not isinstance(value, list) or not value:
        raise DataError("must be a list of viewpoints", file=path)
    return graph_from_rows(value, path, path.name.removesuffix(SUFFIX))


def graph_from_rows(value: list[Any], path: str | Path, scan: str) -> Graph:
    """The same for JSON that is in memory already."""
    rows = [Row(item, path, number) for number, item in enumerate(value, start=1)]
    size = len(rows)
    names: dict[str, int] = {}
    included, open_ways = np.zeros(size, bool), np.zeros((size, size), bool)
    position = np.zeros((size, 3))
    for number, row in enumerate(rows):
        name = row.text("image_id")
        if names.setdefault(name, number) != number:
            raise row.error(f"viewpoint {name} already stands in row {names[name] + 1}", "image_id")
        included[number] = _truths(row, "included", [row.raw("included")], 1)[0]
        open_ways[number] = _truths(row, "unobstructed", row.raw("unobstructed"), size)
        position[number] = _position(row)
    edges = open_ways & included & included[:, None]
    _check_edges(edges, rows)
    degree = edges.sum(axis=1)
    neighbours = np.full((size, max(1, int(degree.max()))), -1, np.int32)
    sources, targets = np.nonzero(edges)
    begin = np.cumsum(degree) - degree
    neighbours[sources, np.arange(len(sources)) - begin[sources]] = targets
    return Graph(scan, tuple(names), included, position, neighbours)


def _truths(row: Row, name: str, values: Any, size: int) -> Any:
    if not isinstance(values, list):
        raise row.error("must be a list of true and false", name)
    if len(values) != size:
        raise row.error(f"holds {len(values)} values, but the file has {size} viewpoints", name)
    if not set(map(type, values)) <= {bool}:
        raise row.error("must hold nothing but true and false", name)
    return values


def _position(row: Row) -> tuple[float, float, float]:
    pose = row.raw("pose")
    if not isinstance(pose, list) or len(pose) != 16:
        raise row.error("must be a list of 16 numbers", "pose")
    if not set(map(type, pose)) <= {int, float} or not all(abs(number) < 1e6 for number in pose):
        raise row.error("must hold finite numbers (metres) only", "pose")
    return pose[3], pose[7], pose[11]


def _check_edges(edges: npt.NDArray[np.bool_], rows: list[Row]) -> None:
    odd = np.argwhere(edges & ~edges.T)
    if len(odd):
        here, there = (int(number) for number in odd[0])
        raise rows[here].error(
            f"leads to row {there + 1}, which does not lead back", "unobstructed", "edges must hold both ways"
        )
    loops = np.flatnonzero(edges.diagonal())
    if len(loops):
        raise rows[int(loops[0])].error("leads to itself", "unobstructed")
