"""The scenes of the miniature world: what can stand in a picture, and which pictures a seed stands for.

A scene is a pure function of `(seed, split, index)`: nothing needs to be stored to make it again. Randomness comes from
`random.Random` seeded with a string, whose stream Python keeps stable over versions and machines.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "moon", "heart", "arrow")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "white")
TEXTURES = ("solid", "striped", "dotted")
SIZES = ("small", "large")
BACKGROUNDS = ("grass", "sky", "sand", "brick", "snow", "night")
MAX_OBJECTS = 6

CANVAS = 128
"""Side of the world in its own units; a picture of 128 pixels shows one unit as one pixel."""
RADIUS = {"small": (10.0, 12.0), "large": (17.0, 20.0)}
"""Smallest and largest radius of an object by size name; the gap keeps the two sizes apart."""
MARGIN = 3.0
"""Units kept free between two objects, and between an object and the border."""
RELATIONS = ("left of", "right of", "above", "below")
RELATION_MARGIN = 12.0
"""Centres that differ by less than this on an axis stand in neither relation on that axis."""
NEXT_TO = 14.0
"""Two objects are next to each other when the gap between their outlines is at most this."""
APART = 34.0
"""... and clearly not when the gap is at least this; between the two nobody is asked."""

HELD_OUT = frozenset(
    (shape, COLORS[(3 * i + offset) % len(COLORS)]) for i, shape in enumerate(SHAPES) for offset in (0, 4)
)
"""The 20 of 80 shape-colour pairs that only the split `shifted` shows: no training picture of any kind has them."""


@dataclass(frozen=True)
class Object:
    """One thing in a scene. `x`, `y` (centre) and `radius` are in units of `CANVAS`; `tilt` is in degrees."""

    shape: str
    color: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    tilt: float
    shade: tuple[int, int, int]
    """Offset of this object's colour from the nominal one, a channel, in grey levels."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The square around the object as (left, top, right, bottom) in units of `CANVAS`."""
        return (self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)

    @property
    def pair(self) -> tuple[str, str]:
        """Shape and colour, the combination that the split `shifted` holds out."""
        return (self.shape, self.color)


@dataclass(frozen=True)
class Scene:
    """A background and the objects on it, which never overlap. `key` names the scene and seeds its drawing."""

    key: str
    background: str
    objects: tuple[Object, ...]


@dataclass(frozen=True)
class Priors:
    """How often each word comes up in a stream of scenes (weights, not normalised)."""

    shapes: tuple[float, ...]
    colors: tuple[float, ...]
    textures: tuple[float, ...]
    backgrounds: tuple[float, ...]
    counts: tuple[float, ...]
    """Weight of 1, 2, ... `MAX_OBJECTS` objects."""
    held_out: float
    """Chance that an object shows one of the held-out shape-colour pairs (0: never)."""


def _slope(n: int, *, first: float, last: float) -> tuple[float, ...]:
    return tuple(first + (last - first) * i / (n - 1) for i in range(n))


EVERYDAY = Priors(
    shapes=_slope(len(SHAPES), first=1.4, last=0.6),
    colors=_slope(len(COLORS), first=1.5, last=0.5),
    textures=(1.4, 1.0, 0.8),
    backgrounds=_slope(len(BACKGROUNDS), first=1.5, last=0.5),
    counts=(1.6, 1.8, 1.5, 1.1, 0.7, 0.4),
    held_out=0.0,
)
"""The splits train, val and test."""

SHIFTED = Priors(
    shapes=EVERYDAY.shapes[::-1],
    colors=EVERYDAY.colors[::-1],
    textures=EVERYDAY.textures[::-1],
    backgrounds=EVERYDAY.backgrounds[::-1],
    counts=EVERYDAY.counts[::-1],
    held_out=0.7,
)
"""The split shifted: every preference turned round, and mostly pairs never seen."""

EVEN = Priors(
    shapes=(1.0,) * len(SHAPES),
    colors=(1.0,) * len(COLORS),
    textures=(1.0,) * len(TEXTURES),
    backgrounds=(1.0,) * len(BACKGROUNDS),
    counts=(1.0, 1.2, 1.2, 1.2, 1.0, 1.0),
    held_out=0.0,
)
"""The pictures that the encoders are trained on."""

PRIORS = {"train": EVERYDAY, "val": EVERYDAY, "test": EVERYDAY, "shifted": SHIFTED}


def stream(seed: int, *parts: object) -> random.Random:
    """A random stream of its own for each name: two different names never share draws."""
    return random.Random("/".join(["clipvil-mini", str(seed), *map(str, parts)]))


def scene(seed: int, split: str, index: int) -> Scene:
    """Scene `index` of a split. Splits that are not in `PRIORS` (the encoders' own streams) are drawn `EVEN`."""
    key = f"{seed}/{split}/{index}"
    return sample_scene(stream(seed, split, index), key, PRIORS.get(split, EVEN))


def sample_scene(rng: random.Random, key: str, priors: Priors) -> Scene:
    """Draw a scene: how many objects, where they stand without touching, then what each of them is."""
    count = weighted(rng, range(1, MAX_OBJECTS + 1), priors.counts)
    sizes = [weighted(rng, SIZES, (1.2, 1.0)) for _ in range(count)]
    places = _places(rng, sizes)
    # Pictures with repeated words make counting and unique reference worth asking about.
    repeat = rng.random() < 0.5
    objects: list[Object] = []
    for size, (x, y, radius) in zip(sizes, places, strict=True):
        shape, color = _pair(rng, priors, objects if repeat else [])
        texture = weighted(rng, TEXTURES, priors.textures)
        tilt = rng.uniform(-14.0, 14.0)
        shade = (rng.randrange(-14, 15), rng.randrange(-14, 15), rng.randrange(-14, 15))
        objects.append(Object(shape, color, texture, size, x, y, radius, tilt, shade))
    return Scene(key, weighted(rng, BACKGROUNDS, priors.backgrounds), tuple(objects))


def close_up(scene: Scene, left: float, top: float, side: float) -> Scene:
    """What a square window shows: the objects whose centre lies in it, with places relative to the window.

    Only for describing: positions keep the units of `CANVAS`, but the scene cannot be drawn again from the result.
    """
    inside = tuple(
        replace(thing, x=thing.x - left, y=thing.y - top)
        for thing in scene.objects
        if left <= thing.x < left + side and top <= thing.y < top + side
    )
    return Scene(f"{scene.key}/{left}/{top}/{side}", scene.background, inside)


def weighted(rng: random.Random, choices: Sequence[T], weights: Sequence[float]) -> T:
    """One of `choices`, with chances in proportion to `weights`; one draw from `rng`."""
    point = rng.random() * sum(weights)
    for choice, weight in zip(choices, weights, strict=True):
        point -= weight
        if point < 0:
            return choice
    return choices[-1]


def _pair(rng: random.Random, priors: Priors, earlier: Sequence[Object]) -> tuple[str, str]:
    """Shape and colour of a new object; sometimes one of them is taken over from an earlier object."""
    held_out = rng.random() < priors.held_out
    while True:
        shape = weighted(rng, SHAPES, priors.shapes)
        color = weighted(rng, COLORS, priors.colors)
        if earlier and rng.random() < 0.55:
            other = earlier[rng.randrange(len(earlier))]
            if rng.random() < 0.5:
                shape = other.shape
            else:
                color = other.color
        if ((shape, color) in HELD_OUT) == held_out:
            return shape, color


def _places(rng: random.Random, sizes: Sequence[str]) -> list[tuple[float, float, float]]:
    """Centres and radii such that no two objects touch; starts afresh when a crowd has no room left."""
    while True:
        placed: list[tuple[float, float, float]] = []
        for size in sizes:
            radius = rng.uniform(*RADIUS[size])
            for _ in range(30):
                x = rng.uniform(radius + MARGIN, CANVAS - radius - MARGIN)
                y = rng.uniform(radius + MARGIN, CANVAS - radius - MARGIN)
                if all(math.hypot(x - a, y - b) >= radius + r + MARGIN for a, b, r in placed):
                    placed.append((x, y, radius))
                    break
            else:
                break
        if len(placed) == len(sizes):
            return placed


def relation_holds(relation: str, a: Object, b: Object) -> bool:
    """Whether `a` stands `relation` ("left of", "right of", "above", "below") `b` by more than the margin."""
    dx, dy = b.x - a.x, b.y - a.y
    along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
    return along >= RELATION_MARGIN


def gap(a: Object, b: Object) -> float:
    """Distance between the outlining circles of two objects, in units of `CANVAS`."""
    return math.hypot(a.x - b.x, a.y - b.y) - a.radius - b.radius


def next_to(a: Object, b: Object) -> bool | None:
    """Whether two objects are next to each other; None where people would disagree."""
    distance = gap(a, b)
    if distance <= NEXT_TO:
        return True
    return False if distance >= APART else None
