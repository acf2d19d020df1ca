"""The batched simulator: thousands of agents in one structure of arrays, no loop over agents.

The state of an agent is two numbers, its viewpoint and its view; everything else is looked up (see `tables`). It moves
in one of the two published ways: `act` is the simulator's own action (a navigable location in view, and turns of 30
degrees), `go` the agents' panoramic one (a candidate; it ends in the view that looks at it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clipvil.errors import UsageError
from clipvil.simulator.views import COLUMNS, TURN, VIEW_ELEVATION, VIEW_HEADING, VIEWS, snap
from clipvil.simulator.world import World

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
STOP = -1
"""The action of `go` that stays."""


@dataclass(frozen=True, eq=False)
class Locations:
    """Navigable locations in view of B agents; slot 0 is where they are. Unused slots hold -1 and 0.

    count (B,), viewpoint (B, L) numbers in the world, heading and elevation (B, L) radians relative to the camera,
    distance (B, L) metres.
    """

    count: npt.NDArray[np.int32]
    viewpoint: npt.NDArray[np.int32]
    heading: Floats
    elevation: Floats
    distance: Floats

    @cached_property
    def real(self) -> npt.NDArray[np.bool_]:
        """(B, L) bool: which slots are used."""
        return np.arange(self.viewpoint.shape[1]) < self.count[:, None]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Panoramic candidates of B agents in the published order. Unused slots hold -1 and 0.

    count (B,), viewpoint (B, K) numbers in the world, view (B, K) the view that shows it nearest its middle, heading
    (B, K) radians relative to the agent's column, not wrapped, elevation (B, K) radians absolute, distance (B, K)
    metres.
    """

    count: npt.NDArray[np.int32]
    viewpoint: npt.NDArray[np.int32]
    view: npt.NDArray[np.int32]
    heading: Floats
    elevation: Floats
    distance: Floats

    @cached_property
    def real(self) -> npt.NDArray[np.bool_]:
        """(B, K) bool: which slots are used."""
        return np.arange(self.viewpoint.shape[1]) < self.count[:, None]


class Simulator:
    """B agents in a world. Arrays: `viewpoint`, `view`, `steps` (B,) int64; do not write into them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.viewpoint = self.view = self.steps = np.zeros(0, np.int64)
        self._row = self.viewpoint  # viewpoint and view as one number, the row of the tables

    def __len__(self) -> int:
        return len(self.viewpoint)

    @property
    def heading(self) -> Floats:
        """(B,) radians, 0 to 2 pi."""
        return VIEW_HEADING[self.view]

    @property
    def elevation(self) -> Floats:
        """(B,) radians."""
        return VIEW_ELEVATION[self.view]

    def start(self, viewpoint: npt.ArrayLike, heading: npt.ArrayLike = 0.0, elevation: npt.ArrayLike = 0.0) -> None:
        """Begin an episode for each of B agents at these viewpoints (numbers in the world) and angles (radians).

        Raises UsageError for a number that is none of an included viewpoint, and for angles that are not finite.
        """
        place = np.atleast_1d(np.asarray(viewpoint, np.int64)).copy()
        if place.ndim != 1 or ((place < 0) | (place >= len(self.world))).any():
            raise UsageError(f"viewpoints are numbers from 0 to {len(self.world) - 1}, one an agent")
        outside = place[~self.world.included[place]]
        if len(outside):
            scan, name = self.world.name(int(outside[0]))
            raise UsageError(f"scan {scan}: viewpoint {name} is not included in the graph; no episode can start there")
        try:
            view = np.array(np.broadcast_to(snap(heading, elevation), place.shape))
        except ValueError as error:
            raise UsageError(f"an episode cannot start: {error}") from None
        self.viewpoint, self.view, self.steps = place, view, np.zeros(len(place), np.int64)
        self._row = place * VIEWS + view

    def start_at(
        self,
        scans: Sequence[str],
        viewpoints: Sequence[str],
        heading: npt.ArrayLike = 0.0,
        elevation: npt.ArrayLike = 0.0,
    ) -> None:
        """The same by names. Raises DataError where scan or viewpoint are unknown or not included."""
        self.start(self.world.find_all(scans, viewpoints), heading, elevation)

    def act(self, index: npt.ArrayLike, heading: npt.ArrayLike = 0.0, elevation: npt.ArrayLike = 0.0) -> None:
        """Move each agent to a navigable location in its view (0: stay), then turn it by the sign of the changes.

        Turns are 30 degrees whatever the size of the change, as in the discretised original; beyond the upper and the
        lower row elevation stays. Raises UsageError, changing nothing, for a location that is not in the list and for
        a change that is no number.
        """
        turned, raised = np.sign(heading), np.sign(elevation)
        if np.isnan(turned + raised).any():
            raise UsageError("changes of heading and elevation must be numbers")
        right, up = turned.astype(np.int64), raised.astype(np.int64)
        table = self._in_view
        slot = np.asarray(index, np.int64)
        if ((slot < 0) | (slot >= table.count.take(self._row))).any():
            bad = np.broadcast_to(slot, self.view.shape)
            agent = int(np.flatnonzero((bad < 0) | (bad >= table.count[self._row]))[0])
            raise UsageError(
                f"agent {agent}: location {int(bad[agent])} is not in its list of {int(table.count[self._row[agent]])}"
            )
        self.viewpoint = table.viewpoint.take(self._row * table.width + slot).astype(np.int64)
        self.view = table.turn.take(self.view * 9 + right * 3 + (up + 4))
        self._row = self.viewpoint * VIEWS + self.view
        self.steps = self.steps + 1

    def locations(self) -> Locations:
        """What each agent can reach within its view, as the simulator lists it."""
        table = self._in_view
        angles = table.values.take(self._row, axis=0)
        return Locations(
            table.count.take(self._row),
            table.rows.take(self._row, axis=0),
            angles[:, 0],
            angles[:, 1],
            angles[:, 2],
        )

    def candidates(self) -> Candidates:
        """What each agent can reach at all, as the panoramic agents list it."""
        table = self._panoramic
        names, values = table.names.take(self.viewpoint, axis=0), table.values.take(self.viewpoint, axis=0)
        values[:, 0] -= VIEW_HEADING.take(self.view)[:, None]
        return Candidates(
            table.count.take(self.viewpoint), names[:, 0], names[:, 1], values[:, 0], values[:, 1], values[:, 2]
        )

    def go(self, candidate: npt.ArrayLike) -> None:
        """Move each agent to a panoramic candidate, looking as the candidate's view does; STOP (-1) stays.

        Raises UsageError, changing nothing, for a candidate that is not in the list.
        """
        table = self._panoramic
        slot = np.asarray(candidate, np.int64)
        if ((slot < STOP) | (slot >= table.count.take(self.viewpoint))).any():
            bad = np.broadcast_to(slot, self.view.shape)
            agent = int(np.flatnonzero((bad < STOP) | (bad >= table.count[self.viewpoint]))[0])
            raise UsageError(
                f"agent {agent}: candidate {int(bad[agent])} is not in its list of "
                f"{int(table.count[self.viewpoint[agent]])}"
            )
        at = self.viewpoint * table.width + slot
        stay = slot == STOP
        # Slot -1 reads the entry before the row, which exists in a flat take with wrapping and is thrown away.
        self.view = np.where(stay, self.view, table.view.take(at, mode="wrap"))
        self.viewpoint = np.where(stay, self.viewpoint, table.viewpoint.take(at, mode="wrap"))
        self._row = self.viewpoint * VIEWS + self.view
        self.steps = self.steps + 1

    def state(self, agent: int) -> tuple[str, str, int]:
        """Scan, viewpoint and view of one agent, by name."""
        scan, name = self.world.name(int(self.viewpoint[agent]))
        return scan, name, int(self.view[agent])

    @cached_property
    def _in_view(self) -> _FlatInView:
        return _FlatInView(self.world)

    @cached_property
    def _panoramic(self) -> _FlatPanoramic:
        return _FlatPanoramic(self.world)


class _FlatInView:
    """The in-view tables with viewpoint and view as one row number, and the three angles and lengths side by side."""

    def __init__(self, world: World) -> None:
        table = world.in_view
        self.width = table.viewpoint.shape[2]
        self.count = table.count.reshape(-1)
        self.rows = table.viewpoint.reshape(-1, self.width)
        self.viewpoint = table.viewpoint.reshape(-1)
        parts = (table.heading, table.elevation, table.distance)
        self.values = np.stack([part.reshape(-1, self.width) for part in parts], axis=1)
        self.turn = TURN.reshape(-1)


class _FlatPanoramic:
    """The panoramic tables, names and numbers side by side."""

    def __init__(self, world: World) -> None:
        table = world.panoramic
        self.width = table.viewpoint.shape[1]
        self.count = table.count
        self.viewpoint = table.viewpoint.reshape(-1).astype(np.int64)
        self.view = table.view.reshape(-1).astype(np.int64)
        self.names = np.stack([table.viewpoint, table.view], axis=1)
        self.values = np.stack([table.bearing, table.elevation, table.distance], axis=1)


def camera_steps(view: npt.ArrayLike, target: npt.ArrayLike) -> Indices:
    """How many turns the published agents make between two views: rows first, then to the right only."""
    here, there = np.asarray(view, np.int64), np.asarray(target, np.int64)
    rows = np.abs(there // COLUMNS - here // COLUMNS)
    return np.asarray(rows + (there - here) % COLUMNS, np.int64)
