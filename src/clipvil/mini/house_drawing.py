"""Drawing what is seen from a viewpoint of a miniature house: 36 views by casting a ray a pixel.

A view is the middle square of what the simulator's camera sees: 60 degrees each way. Rays are cast once around a
viewpoint; a pixel then looks its direction up. Floor, walls and ceiling are plain, each room's walls in a tone of their
own; landmarks stand upright, face whoever looks, and are hidden by walls. The same house gives the same pixels for
given versions of Pillow and NumPy.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from clipvil.mini.drawing import OUTLINE, PAINT, SHAPE_MASKS
from clipvil.mini.houses import DOOR, EYE, HEIGHT, SIDE, House, Landmark
from clipvil.mini.world import stream

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

VIEWS, COLUMNS = 36, 12
SIZE = 64
FIELD = math.radians(60.0)
_AROUND = 2880
"""Rays around a viewpoint: an eighth of a degree each, against about one degree of a pixel."""
_FLOOR, _CEILING = (150, 128, 104), (232, 232, 226)
_SPRITE = 128
_WIDEST = math.radians(50.0)
"""How far to the side a corner of a picture that looks up or down can show something."""


def panorama(house: House, room: int, size: int = SIZE) -> Bytes:
    """The 36 views of a room's viewpoint, (36, size, size, 3) uint8 RGB, in the order of the simulator's views."""
    here = house.rooms[room]
    depth, cell = cast(house, here.x, here.y)
    tones, seen = _tones(house), _in_sight(house, here.x, here.y, depth)
    out = np.empty((VIEWS, size, size, 3), np.uint8)
    for view in range(VIEWS):
        # The world's heading 0 lies `turn` to the left of the house's own.
        heading = view % COLUMNS * math.pi / 6 - house.turn
        around, rise = _rays(view // COLUMNS, size)
        azimuth = around + heading
        ray = np.floor(azimuth / (2 * math.pi) * _AROUND).astype(np.int64) % _AROUND
        out[view] = _surfaces(depth[ray], tones[cell[ray]], rise)
        for thing, bearing, reach in seen:
            if abs((bearing - heading + math.pi) % (2 * math.pi) - math.pi) < _WIDEST + reach:
                _draw_landmark(out[view], thing, here.x, here.y, azimuth, rise, depth[ray])
    return out


@lru_cache(maxsize=16)
def _rays(row: int, size: int) -> tuple[Floats, Floats]:
    """Of each pixel: heading relative to the camera's (radians), and the tangent of its elevation."""
    pitch = (row - 1) * math.pi / 6
    edge = math.tan(FIELD / 2)
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    right, up = np.meshgrid(steps * edge, -steps * edge)
    ahead = math.cos(pitch) - up * math.sin(pitch)
    height = math.sin(pitch) + up * math.cos(pitch)
    return np.arctan2(right, ahead), height / np.hypot(right, ahead)


def cast(house: House, x: float, y: float) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Metres to the first wall, and the room it belongs to, in each of the directions around (x, y).

    Ray i looks at heading 2 pi (i + 0.5) / n in the house's own axes; doors are open from floor to ceiling.
    """
    heading = (np.arange(_AROUND) + 0.5) / _AROUND * 2 * math.pi
    dx, dy = np.sin(heading), np.cos(heading)
    passable = np.zeros((len(house.rooms), len(house.rooms)), bool)
    for a, b in house.doors:
        passable[a, b] = passable[b, a] = True
    column = np.full(_AROUND, math.floor(x / SIDE))
    row = np.full(_AROUND, math.floor(y / SIDE))
    depth, going = np.zeros(_AROUND), np.ones(_AROUND, bool)
    for _ in range(house.columns + house.rows):
        to_x = ((column + (dx > 0)) * SIDE - x) / dx
        to_y = ((row + (dy > 0)) * SIDE - y) / dy
        sideways = to_x < to_y
        reach = np.minimum(to_x, to_y)
        depth = np.where(going, reach, depth)
        next_column = column + np.where(sideways, np.sign(dx), 0).astype(np.int64)
        next_row = row + np.where(sideways, 0, np.sign(dy)).astype(np.int64)
        inside = (next_column >= 0) & (next_column < house.columns) & (next_row >= 0) & (next_row < house.rows)
        there = np.where(inside, next_row * house.columns + next_column, 0)
        # Where the ray meets the wall, counted from the wall's middle.
        along = np.where(sideways, y + reach * dy - (row + 0.5) * SIDE, x + reach * dx - (column + 0.5) * SIDE)
        through = inside & passable[row * house.columns + column, there] & (np.abs(along) < DOOR / 2)
        going &= through
        column, row = np.where(going, next_column, column), np.where(going, next_row, row)
        if not going.any():
            break
    return depth, row * house.columns + column


def _tones(house: House) -> Floats:
    """(rooms, 3): the colour of each room's walls, pale and nearly grey."""
    rng = stream(0, "walls", house.scan)
    return np.array(
        [[196 + rng.randrange(-22, 23) + rng.randrange(-8, 9) for _ in range(3)] for _ in house.rooms], float
    )


def _surfaces(depth: Floats, tone: Floats, rise: Floats) -> Bytes:
    """Walls, floor and ceiling, darker with distance."""
    height = EYE + depth * rise
    low, high = height < 0, height > HEIGHT
    steep = np.where(np.abs(rise) > 1e-9, rise, 1e-9)
    away = np.where(low, -EYE / steep, np.where(high, (HEIGHT - EYE) / steep, depth))
    colour = np.where(low[..., None], _FLOOR, np.where(high[..., None], _CEILING, tone))
    light = 1.0 / (1.0 + 0.035 * away)
    return np.clip(colour * light[..., None], 0, 255).astype(np.uint8)


def _in_sight(house: House, x: float, y: float, depth: Floats) -> list[tuple[Landmark, float, float]]:
    """The landmarks that face (x, y) with no wall before all of them, the farthest first.

    With each its heading in the house's axes and half the angle that it takes up.
    """
    out = []
    for thing in house.landmarks:
        away, front = math.dist((x, y), (thing.x, thing.y)), thing.facing
        if front != (0.0, 0.0) and (x - thing.x) * front[0] + (y - thing.y) * front[1] <= 0:
            continue
        bearing, reach = math.atan2(thing.x - x, thing.y - y), math.atan2(thing.radius, away)
        first, last = (math.floor((bearing + side * reach) / (2 * math.pi) * _AROUND) for side in (-1, 1))
        if depth[np.arange(first, last + 1) % _AROUND].max() > away:
            out.append((thing, bearing, reach))
    return sorted(out, key=lambda found: (-math.dist((x, y), (found[0].x, found[0].y)), found[0].name))


def _draw_landmark(
    picture: Bytes, thing: Landmark, x: float, y: float, azimuth: Floats, rise: Floats, depth: Floats
) -> None:
    """Paint a landmark where its plane is nearer than the walls."""
    away = math.dist((x, y), (thing.x, thing.y))
    aside = azimuth - math.atan2(thing.x - x, thing.y - y)
    # Only the columns that can show it; the rest of the picture costs as much and stays as it is.
    apart = np.abs((aside + math.pi) % (2 * math.pi) - math.pi)
    columns = np.flatnonzero(apart.min(axis=0) < math.atan2(thing.radius, away) + 0.02)
    if not len(columns):
        return
    part = slice(int(columns[0]), int(columns[-1]) + 1)
    picture, aside, rise, depth = picture[:, part], aside[:, part], rise[:, part], depth[:, part]
    cosine = np.cos(aside)
    near = cosine > 0.2
    plane = np.where(near, away / np.where(near, cosine, 1.0), np.inf)
    right = away * np.where(near, np.sin(aside), np.inf) / np.where(near, cosine, 1.0) / thing.radius
    up = (EYE + np.where(near, plane, 0.0) * rise - thing.z) / thing.radius
    hit = near & (plane < depth) & (np.abs(right) < 1) & (np.abs(up) < 1)
    if not hit.any():
        return
    # The sprite whose pixels are about as large as the picture's.
    pixels = len(picture) * 2 * math.atan(thing.radius / away) / FIELD
    paint, cover = _sprite(thing.shape, thing.color, int(np.clip(2 ** math.ceil(math.log2(pixels)), 4, _SPRITE)))
    side = len(cover)
    column = ((right[hit] + 1) / 2 * side).astype(np.int64).clip(0, side - 1)
    line = ((1 - up[hit]) / 2 * side).astype(np.int64).clip(0, side - 1)
    share = cover[line, column, None]
    mixed = picture[hit] * (1 - share) + paint[line, column] * share
    picture[hit] = np.rint(mixed).astype(np.uint8)


@lru_cache(maxsize=1024)
def _sprite(shape: str, color: str, side: int) -> tuple[Floats, Floats]:
    """A landmark seen from the front: colours (side, side, 3) and how much they cover (side, side), 0 to 1."""
    big = 4 * _SPRITE
    body, edge = Image.new("L", (big, big)), Image.new("L", (big, big))
    SHAPE_MASKS[shape](ImageDraw.Draw(edge), big / 2, big / 2, 0.0)
    if shape in ("ring", "moon"):
        # Holed shapes have no smaller copy of themselves inside; a plain paint without a border will do.
        body = edge
    else:
        SHAPE_MASKS[shape](ImageDraw.Draw(body), big / 2, big / 2 * 0.92, 0.0)
    paint = Image.new("RGB", (big, big), OUTLINE)
    paint.paste(Image.new("RGB", (big, big), PAINT[color]), (0, 0), body)
    factor = big // side
    colours: Any = np.asarray(paint.reduce(factor), np.float64)
    return colours, np.asarray(edge.reduce(factor), np.float64) / 255
