"""What can be seen and reached from each viewpoint, worked out once a scan, so that a step of a batch is a look-up.

Two views of "where can I go" (names are those of the published formulas in docs/navigation.md):

- in view: the navigable locations of the simulator, those within the horizontal field of the camera, the present place
  first, then by angular distance from the middle of the picture;
- panoramic: the candidates of EnvDrop and its successors, every neighbour once, with the view that shows it nearest its
  middle, in the order in which a sweep over the 36 views first meets them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clipvil.simulator.graph import Graph
from clipvil.simulator.views import HALF_FIELD, STEP, VIEW_ELEVATION, VIEW_HEADING, VIEWS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class InView:
    """Navigable locations of N viewpoints in 36 views; slot 0 is the place itself, unused slots are -1 and 0.

    count (N, 36) int32 with the place itself, viewpoint (N, 36, L) int32 index in the scan, heading and elevation
    (N, 36, L) float64 radians relative to the camera, distance (N, 36, L) float64 metres.
    """

    count: Ints
    viewpoint: Ints
    heading: Floats
    elevation: Floats
    distance: Floats


@dataclass(frozen=True, eq=False)
class Panoramic:
    """Candidates of N viewpoints; unused slots are -1 and 0.

    count (N,) int32, viewpoint (N, K) int32 index in the scan, view (N, K) int32 the view nearest to it (the published
    `pointId`), place (N, K) int32 its slot in that view's navigable locations (`idx`), bearing (N, K) float64 the
    absolute heading in radians, not wrapped, elevation (N, K) float64 absolute, distance (N, K) float64 metres, off (N,
    K) float64 the angle from the middle of the view.
    """

    count: Ints
    viewpoint: Ints
    view: Ints
    place: Ints
    bearing: Floats
    elevation: Floats
    distance: Floats
    off: Floats


class ScanTables:
    """The tables of one graph, each made when first needed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        there = np.maximum(graph.neighbours, 0)
        # The original keeps positions in single precision.
        position = graph.position.astype(np.float32)
        self._single = position[there] - position[:, None]
        self._offset = self._single.astype(np.float64)
        self._real = graph.neighbours >= 0

    @cached_property
    def _seen(self) -> tuple[npt.NDArray[np.bool_], Floats, Floats, Floats]:
        """(N, 36, K): seen or not, relative heading, relative elevation, angle from the middle of the view."""
        dx, dy, dz = (self._offset[:, None, :, axis] for axis in range(3))
        flat = np.hypot(dx, dy)
        sine, cosine = (np.sin(VIEW_HEADING)[:, None], np.cos(VIEW_HEADING)[:, None])
        ahead, right = dx * sine + dy * cosine, dx * cosine - dy * sine
        heading = np.arctan2(right, ahead)
        elevation = np.arctan2(dz, flat) - VIEW_ELEVATION[:, None]
        # A neighbour straight above has no direction; as in the original it is in no view.
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = self._real[:, None] & (ahead / flat >= math.cos(HALF_FIELD))
        return seen, heading, elevation, np.hypot(heading, elevation)

    @cached_property
    def _distance(self) -> Floats:
        squares = self._single[..., 0] ** 2 + self._single[..., 1] ** 2 + self._single[..., 2] ** 2
        return np.where(self._real, np.sqrt(squares), np.float32(0)).astype(np.float64)

    @cached_property
    def _order(self) -> Ints:
        """(N, 36, K): neighbour slots, those that are seen first, by angle from the middle of the view."""
        seen, _, _, off = self._seen
        return np.argsort(np.where(seen, off, np.inf), axis=2, kind="stable").astype(np.int32)

    @cached_property
    def in_view(self) -> InView:
        """The navigable locations of every viewpoint and view."""
        seen, heading, elevation, _ = self._seen
        count = seen.sum(axis=2)
        width = max(1, int(count.max()))
        order = self._order[..., :width]
        real = np.arange(width) < count[..., None]
        rows = np.arange(len(self.graph))[:, None, None]

        def pick(values: npt.NDArray[np.float64]) -> Floats:
            out = np.zeros((len(self.graph), VIEWS, width + 1))
            out[..., 1:] = np.where(real, np.take_along_axis(values, order, axis=2), 0.0)
            return out

        viewpoint = np.full((len(self.graph), VIEWS, width + 1), -1, np.int32)
        viewpoint[..., 0] = np.arange(len(self.graph))[:, None]
        viewpoint[..., 1:] = np.where(real, self.graph.neighbours[rows, order], -1)
        distance = np.broadcast_to(self._distance[:, None], seen.shape)
        return InView((count + 1).astype(np.int32), viewpoint, pick(heading), pick(elevation), pick(distance))

    @cached_property
    def panoramic(self) -> Panoramic:
        """The candidates of every viewpoint."""
        seen, heading, elevation, off = self._seen
        size, slots = self.graph.neighbours.shape
        nearness = np.where(seen, off, np.inf)
        view = nearness.argmin(axis=1)  # the earliest of equal ones, as a strict comparison in the sweep keeps it
        met = np.where(seen.any(axis=1), seen.argmax(axis=1), VIEWS)
        # Neighbours met in the same view come in that view's own order.
        rank = np.empty(seen.shape, np.int32)
        np.put_along_axis(rank, self._order, np.arange(slots, dtype=np.int32), axis=2)
        rows, columns = np.arange(size)[:, None], np.arange(slots)
        first_rank = rank[rows, np.minimum(met, VIEWS - 1), columns]
        order = np.argsort(met * (slots + 1) + first_rank, axis=1, kind="stable")
        count = (met < VIEWS).sum(axis=1)
        real = np.arange(slots) < count[:, None]

        def pick(values: npt.NDArray[np.float64], absent: float = 0.0) -> Floats:
            return np.where(real, np.take_along_axis(values, order, axis=1), absent)

        best_heading = heading[rows, view, columns]
        best_elevation = elevation[rows, view, columns]
        return Panoramic(
            count.astype(np.int32),
            pick(self.graph.neighbours.astype(np.float64), -1).astype(np.int32),
            pick(view.astype(np.float64), -1).astype(np.int32),
            pick(1.0 + rank[rows, view, columns], -1).astype(np.int32),
            pick(view % 12 * STEP + best_heading),
            pick(VIEW_ELEVATION[view] + best_elevation),
            pick(self._distance),
            pick(off[rows, view, columns]),
        )
