"""Navigation graphs, with the distances and next hops of every pair of viewpoints.

The graph of a scan joins viewpoints that one can walk between; an edge is as long as the straight line. Files are read
by `clipvil.datasets.connectivity`. Source: the graph loader of the Matterport3D simulator
(peteanderson80/Matterport3DSimulator @ 589d091).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clipvil.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
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
            slack = np.where(np.isfinite(through), _TIE * (1.0 + through), -1.0)
            with np.errstate(invalid="ignore"):  # infinite minus infinite: no way at all, so no tie
                near = reach & (np.abs(through - best) <= slack)
                ties |= (near & (np.abs(through - self.distance) <= 2 * slack)).any(axis=1)
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


def find_graph(graphs: Mapping[str, Graph], scan: str) -> Graph:
    """The graph of a scan. Raises DataError, naming some that are there, where it is unknown."""
    if scan not in graphs:
        some = ", ".join(list(graphs)[:3]) + (", ..." if len(graphs) > 3 else "")
        folder = getattr(graphs, "folder", None)
        raise DataError(f"no graph of the scan '{scan}'; there are {len(graphs)}: {some}", file=folder)
    return graphs[scan]
