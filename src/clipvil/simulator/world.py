"""Several scans as one: viewpoints numbered through, and all tables in single arrays, so that a batch may mix scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clipvil.errors import DataError
from clipvil.simulator.graph import Graph, find_graph
from clipvil.simulator.tables import InView, Panoramic, ScanTables

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class World:
    """The graphs of some scans; V viewpoints in all, numbered scan after scan in file order."""

    def __init__(self, graphs: Mapping[str, Graph], scans: Iterable[str] | None = None) -> None:
        """`scans` chooses and orders; by default all. Raises DataError for an unknown scan and for faulty files."""
        self.scans = tuple(graphs) if scans is None else tuple(dict.fromkeys(scans))
        if not self.scans:
            raise DataError("a world needs at least one scan")
        self.graphs = tuple(find_graph(graphs, scan) for scan in self.scans)
        sizes = np.array([len(graph) for graph in self.graphs])
        self.offset: Indices = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._number = {scan: number for number, scan in enumerate(self.scans)}
        self.scan_of: Indices = np.repeat(np.arange(len(sizes)), sizes)
        """(V,) int64: which scan each viewpoint belongs to."""

    def __len__(self) -> int:
        return int(self.offset[-1])

    def graph(self, scan: str) -> Graph:
        """The graph of one of the scans. Raises DataError for another."""
        return self.graphs[self._scan(scan)]

    def _scan(self, scan: str) -> int:
        if scan not in self._number:
            raise DataError(f"this world has no scan '{scan}'; it has {len(self.scans)}, as {self.scans[0]}")
        return self._number[scan]

    def find(self, scan: str, viewpoint: str) -> int:
        """The number of a viewpoint. Raises DataError where scan or viewpoint are unknown or not included."""
        number = self._scan(scan)
        return int(self.offset[number]) + self.graphs[number].find(viewpoint)

    def find_all(self, scans: Sequence[str], viewpoints: Sequence[str]) -> Indices:
        """Numbers of many viewpoints; raises as `find` does."""
        return np.array([self.find(scan, name) for scan, name in zip(scans, viewpoints, strict=True)], np.int64)

    def name(self, viewpoint: int) -> tuple[str, str]:
        """Scan and id of a viewpoint."""
        number = int(self.scan_of[viewpoint])
        return self.scans[number], self.graphs[number].viewpoints[int(viewpoint) - int(self.offset[number])]

    def keys(self) -> list[str]:
        """`<scan>_<viewpoint>` of all viewpoints in order, as feature files name them."""
        return [
            f"{scan}_{name}" for scan, graph in zip(self.scans, self.graphs, strict=True) for name in graph.viewpoints
        ]

    @cached_property
    def included(self) -> npt.NDArray[np.bool_]:
        """(V,) bool."""
        return np.concatenate([graph.included for graph in self.graphs])

    @cached_property
    def _tables(self) -> list[ScanTables]:
        return [ScanTables(graph) for graph in self.graphs]

    @cached_property
    def in_view(self) -> InView:
        """The tables of all viewpoints below one another; `viewpoint` counts through the world."""
        parts = [tables.in_view for tables in self._tables]
        width = max(part.viewpoint.shape[2] for part in parts)
        shifted = [self._shifted(part.viewpoint, number) for number, part in enumerate(parts)]
        return InView(
            np.concatenate([part.count for part in parts]),
            np.concatenate([_widened(part, width, -1) for part in shifted]),
            *(
                np.concatenate([_widened(getattr(part, name), width, 0) for part in parts])
                for name in ("heading", "elevation", "distance")
            ),
        )

    @cached_property
    def panoramic(self) -> Panoramic:
        """The tables of all viewpoints below one another; `viewpoint` counts through the world."""
        parts = [tables.panoramic for tables in self._tables]
        width = max(part.viewpoint.shape[1] for part in parts)
        shifted = [self._shifted(part.viewpoint, number) for number, part in enumerate(parts)]

        def join(name: str, fill: int) -> npt.NDArray[np.float64]:
            return np.concatenate([_widened(getattr(part, name), width, fill) for part in parts])

        return Panoramic(
            np.concatenate([part.count for part in parts]),
            np.concatenate([_widened(part, width, -1) for part in shifted]),
            join("view", -1).astype(np.int32),
            join("place", -1).astype(np.int32),
            *(join(name, 0) for name in ("bearing", "elevation", "distance", "off")),
        )

    def _shifted(self, viewpoint: npt.NDArray[np.int32], number: int) -> npt.NDArray[np.int32]:
        return np.where(viewpoint < 0, -1, viewpoint + self.offset[number]).astype(np.int32)

    @cached_property
    def _pairs(self) -> Indices:
        """(S + 1,): where the pairs of each scan begin in the flat tables of pairs."""
        sizes = np.diff(self.offset)
        return np.concatenate([[0], np.cumsum(sizes * sizes)]).astype(np.int64)

    @cached_property
    def _distances(self) -> Floats:
        return np.concatenate([graph.distance.ravel() for graph in self.graphs])

    @cached_property
    def _hops(self) -> npt.NDArray[np.int32]:
        return np.concatenate([self._shifted(graph.next_hop, n).ravel() for n, graph in enumerate(self.graphs)])

    def _pair(self, start: Indices, goal: Indices) -> Indices:
        number = self.scan_of[start]
        if (number != self.scan_of[goal]).any():
            raise ValueError("start and goal lie in different scans")
        begin = self.offset[number]
        return self._pairs[number] + (start - begin) * (self.offset[number + 1] - begin) + goal - begin

    def distance(self, start: Indices, goal: Indices) -> Floats:
        """Metres along the shortest way between viewpoints of the same scan, any shape; infinite where none leads."""
        return self._distances[self._pair(start, goal)]

    def next_hop(self, start: Indices, goal: Indices) -> Indices:
        """The viewpoint after `start` on the shortest way to `goal`, -1 where none leads; `goal` itself at the goal."""
        return self._hops[self._pair(start, goal)].astype(np.int64)


def _widened(values: npt.NDArray[np.generic], width: int, fill: int) -> npt.NDArray[np.generic]:
    missing = width - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill) if missing else values
