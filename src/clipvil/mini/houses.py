"""Miniature houses: rooms on a grid, doors between them, and a landmark of its own in every room.

A house is a pure function of `(seed, group, index)`. Each room has one viewpoint near its middle. The landmark of a
room stands in one of its corners, and hangs as a sign in every door that leads to the room, on the side one comes from:
who sees can tell the doors apart, who does not cannot. Landmarks are the shapes and colours of the miniature world,
without the pairs that it holds out. Positions are in metres; `turn` turns the whole house, so that walls lie in no
special direction.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from clipvil.mini.world import COLORS, HELD_OUT, SHAPES, stream

Floats = npt.NDArray[np.float64]

SIDE = 4.0
"""Side of a room. Neighbouring viewpoints stand more than 3 m apart, so the next room does not count as reached."""
DOOR = 1.7
EYE = 1.5
HEIGHT = 2.7
_JITTER = 0.45
_PLANS = ((3, 3), (4, 3), (3, 4))
_EXTRA_DOORS = 0.55
PAIRS = tuple((shape, color) for shape in SHAPES for color in COLORS if (shape, color) not in HELD_OUT)


@dataclass(frozen=True)
class Landmark:
    """A shape in a colour, at (x, y, z) of the house, of some radius.

    `facing` is (x, y), the direction in which its front looks; (0, 0) is seen from everywhere.
    """

    shape: str
    color: str
    x: float
    y: float
    z: float
    radius: float
    facing: tuple[float, float] = (0.0, 0.0)

    @property
    def name(self) -> str:
        """As instructions call it."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Room:
    """One cell of the grid: its viewpoint's id and place in the house, and its landmark."""

    viewpoint: str
    column: int
    row: int
    x: float
    y: float
    landmark: Landmark


@dataclass(frozen=True)
class House:
    """Rooms, and the doors between them as pairs of room numbers (smaller first). `turn` is in radians."""

    scan: str
    columns: int
    rows: int
    rooms: tuple[Room, ...]
    doors: tuple[tuple[int, int], ...]
    turn: float

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """The rooms that doors lead to, ascending, by room."""
        found: list[list[int]] = [[] for _ in self.rooms]
        for a, b in self.doors:
            found[a].append(b)
            found[b].append(a)
        return tuple(tuple(sorted(rooms)) for rooms in found)

    @cached_property
    def signs(self) -> tuple[Landmark, ...]:
        """Two a door: seen from a room, each shows the landmark of the room behind the door."""
        return tuple(_sign(self.rooms[a], self.rooms[b]) for pair in self.doors for a, b in (pair, pair[::-1]))

    @property
    def landmarks(self) -> tuple[Landmark, ...]:
        """All that can be seen: signs and standing landmarks."""
        return (*self.signs, *(room.landmark for room in self.rooms))

    def outside(self, x: float, y: float) -> tuple[float, float]:
        """A place of the house in the world's axes, where the house is turned about its corner."""
        cosine, sine = math.cos(self.turn), math.sin(self.turn)
        return cosine * x + sine * y, cosine * y - sine * x

    def bearing(self, here: int, there: int) -> float:
        """The heading (radians, 0 to 2 pi, as R2R counts it) from one room's viewpoint to another's, in the world."""
        a, b = self.rooms[here], self.rooms[there]
        return (math.atan2(b.x - a.x, b.y - a.y) + self.turn) % (2 * math.pi)

    @cached_property
    def paths(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """The shortest way between any two rooms, both included."""
        lengths, following = self._shortest
        out = {}
        for start in range(len(self.rooms)):
            for goal in range(len(self.rooms)):
                way = [start]
                while way[-1] != goal:
                    way.append(int(following[way[-1], goal]))
                out[start, goal] = tuple(way)
        assert np.isfinite(lengths).all()
        return out

    def length(self, path: tuple[int, ...]) -> float:
        """Metres along a path of rooms."""
        places = [(self.rooms[number].x, self.rooms[number].y) for number in path]
        return sum(math.dist(a, b) for a, b in itertools.pairwise(places))

    @cached_property
    def _shortest(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Floyd and Warshall: lengths and next rooms of all pairs."""
        size = len(self.rooms)
        lengths = np.where(np.eye(size, dtype=bool), 0.0, np.inf)
        following = np.tile(np.arange(size), (size, 1))
        for a, b in self.doors:
            lengths[a, b] = lengths[b, a] = self.length((a, b))
        for middle in range(size):
            through = lengths[:, middle, None] + lengths[middle]
            better = through < lengths
            lengths = np.where(better, through, lengths)
            following = np.where(better, following[:, middle, None], following)
        return lengths, following

    def connectivity(self) -> list[dict[str, Any]]:
        """The content of the connectivity file: poses with rotation, who sees and who reaches whom."""
        cosine, sine = math.cos(self.turn), math.sin(self.turn)
        out = []
        for number, room in enumerate(self.rooms):
            x, y = (round(value, 6) for value in self.outside(room.x, room.y))
            ways = [other in self.neighbours[number] for other in range(len(self.rooms))]
            pose = [round(cosine, 6), round(sine, 6), 0.0, x, round(-sine, 6), round(cosine, 6), 0.0, y]
            pose += [0.0, 0.0, 1.0, EYE, 0.0, 0.0, 0.0, 1.0]
            row = {"image_id": room.viewpoint, "pose": pose, "included": True, "visible": ways}
            out.append({**row, "unobstructed": ways, "height": EYE})
        return out

    def plan(self) -> dict[str, Any]:
        """What a drawing of the house needs, in the world's axes: viewpoints, landmarks, walls as line segments."""
        rooms = []
        for room in self.rooms:
            x, y = self.outside(room.x, room.y)
            rooms.append(
                {"viewpoint": room.viewpoint, "x": round(x, 3), "y": round(y, 3), "landmark": room.landmark.name}
            )
        walls = [[round(v, 3) for place in wall for v in self.outside(*place)] for wall in self.walls()]
        return {"rooms": rooms, "walls": walls}

    def walls(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Every wall in the house's own axes, cut where a door is."""
        open_sides = {frozenset(pair) for pair in self.doors}
        out = []
        for number, room in enumerate(self.rooms):
            left, low = room.column * SIDE, room.row * SIDE
            sides = [((left + SIDE, low), (left + SIDE, low + SIDE), number + 1, room.column + 1 < self.columns)]
            sides += [((left, low + SIDE), (left + SIDE, low + SIDE), number + self.columns, room.row + 1 < self.rows)]
            sides += [((left, low), (left, low + SIDE), -1, False)] if room.column == 0 else []
            sides += [((left, low), (left + SIDE, low), -1, False)] if room.row == 0 else []
            for begin, end, other, inside in sides:
                if inside and frozenset((number, other)) in open_sides:
                    out += _cut(begin, end)
                else:
                    out.append((begin, end))
        return out


def _cut(begin: tuple[float, float], end: tuple[float, float]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    share = (1 - DOOR / SIDE) / 2
    places = [
        (begin[0] + part * (end[0] - begin[0]), begin[1] + part * (end[1] - begin[1]))
        for part in (0, share, 1 - share, 1)
    ]
    return [(places[0], places[1]), (places[2], places[3])]


def _sign(here: Room, there: Room) -> Landmark:
    """In the door from `here` to `there`, looking back at who comes from `here`."""
    across, along = here.column - there.column, here.row - there.row
    x = (here.column + there.column + 1) * SIDE / 2 + 0.1 * across
    y = (here.row + there.row + 1) * SIDE / 2 + 0.1 * along
    shown = there.landmark
    return Landmark(shown.shape, shown.color, x, y, 1.8, 0.5, (float(across), float(along)))


def house(seed: int, group: str, index: int) -> House:
    """House `index` of a group (train, val_unseen, test)."""
    rng = stream(seed, "house", group, index)
    scan = f"mini{seed}{group.replace('_', '')}{index:03d}"
    columns, rows = rng.choice(_PLANS)
    pairs = rng.sample(PAIRS, columns * rows)
    rooms = tuple(_room(rng, scan, number, columns, pairs[number]) for number in range(columns * rows))
    return House(scan, columns, rows, rooms, _doors(rng, columns, rows), rng.random() * 2 * math.pi)


def _room(rng: random.Random, scan: str, number: int, columns: int, pair: tuple[str, str]) -> Room:
    column, row = number % columns, number // columns
    middle_x, middle_y = (column + 0.5) * SIDE, (row + 0.5) * SIDE
    x = middle_x + (2 * rng.random() - 1) * _JITTER
    y = middle_y + (2 * rng.random() - 1) * _JITTER
    corner = rng.choice(((-1, -1), (-1, 1), (1, -1), (1, 1)))
    thing = Landmark(*pair, middle_x + 1.4 * corner[0], middle_y + 1.4 * corner[1], 1.0, 0.45)
    name = hashlib.blake2b(f"{scan}/{number}".encode(), digest_size=16).hexdigest()
    return Room(name, column, row, round(x, 4), round(y, 4), thing)


def _doors(rng: random.Random, columns: int, rows: int) -> tuple[tuple[int, int], ...]:
    """Doors that join all rooms (a random tree), and some more."""
    size = columns * rows
    walls = [(n, n + 1) for n in range(size) if (n + 1) % columns]
    walls += [(n, n + columns) for n in range(size - columns)]
    rng.shuffle(walls)
    part = list(range(size))
    doors = []
    for a, b in walls:
        if part[a] != part[b]:
            old, new = part[b], part[a]
            part = [new if p == old else p for p in part]
            doors.append((a, b))
        elif rng.random() < _EXTRA_DOORS:
            doors.append((a, b))
    return tuple(sorted(doors))
