"""Paths through miniature houses, and what is said about them: landmarks, turns and where to stop.

Three instructions a path. Each move is told in one of three ways: by the landmark of the next room (most often), by the
turn and the landmark, or by the turn alone, where only one door lies that way. The last sentence says where to stop.
"""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

from clipvil.mini.houses import House
from clipvil.mini.world import stream

INSTRUCTIONS = 3
HOPS = (3, 5)
"""Fewest and most doors of a path."""
_BY_LANDMARK, _BY_BOTH = 0.6, 0.2
_GO = ("go to the {}", "walk to the {}", "head for the {}", "go through the door with the {}", "walk towards the {}")
_TURN_GO = ("turn {} and go to the {}", "go {} to the {}", "turn {} and walk to the {}")
_TURN = ("turn {} and go on", "go {}", "take the door to the {}")
_STRAIGHT = ("go straight on", "walk forward", "keep straight on")
_STRAIGHT_GO = ("go straight on to the {}", "walk forward to the {}")
_BACK = ("turn around and go on", "go back through the door behind you")
_BACK_GO = ("turn around and go to the {}", "turn around and walk to the {}")
_STOP = ("stop there", "stop at the {}", "wait by the {}", "stop next to the {}")


def paths(house: House, seed: int) -> list[tuple[int, ...]]:
    """All shortest ways with a fitting number of doors, in a random order that is the same for the same seed."""
    found = [way for way in house.paths.values() if HOPS[0] <= len(way) - 1 <= HOPS[1]]
    stream(seed, "paths", house.scan).shuffle(found)
    return found


def episode(house: House, path: tuple[int, ...], path_id: int, seed: int) -> dict[str, Any]:
    """One row of an R2R file."""
    rng = stream(seed, "instructions", house.scan, path)
    heading = rng.randrange(12) * math.pi / 6
    return {
        "distance": round(house.length(path), 2),
        "scan": house.scan,
        "path_id": path_id,
        "path": [house.rooms[number].viewpoint for number in path],
        "heading": round(heading, 3),
        "instructions": [_tell(rng, house, path, heading) for _ in range(INSTRUCTIONS)],
    }


def _tell(rng: random.Random, house: House, path: tuple[int, ...], heading: float) -> str:
    sentences = []
    for here, there in itertools.pairwise(path):
        sentences.append(_move(rng, house, here, there, heading))
        heading = house.bearing(here, there)
    goal = house.rooms[path[-1]].landmark.name
    end = rng.choice(_STOP).format(goal)
    return " . ".join([*sentences, end]) + " ."


def way(relative: float) -> str:
    """What people call a relative heading (radians): straight, right, back or left, a quarter of the circle each."""
    return ("straight", "right", "back", "left")[round(relative / (math.pi / 2)) % 4]


def _move(rng: random.Random, house: House, here: int, there: int, heading: float) -> str:
    ways = {other: way(house.bearing(here, other) - heading) for other in house.neighbours[here]}
    told, name = ways[there], house.rooms[there].landmark.name
    alone = list(ways.values()).count(told) == 1
    drawn = rng.random()
    if drawn < _BY_LANDMARK or not alone:
        return rng.choice(_GO).format(name)
    both = drawn < _BY_LANDMARK + _BY_BOTH
    if told in ("left", "right"):
        return rng.choice(_TURN_GO).format(told, name) if both else rng.choice(_TURN).format(told)
    with_name, plain = (_STRAIGHT_GO, _STRAIGHT) if told == "straight" else (_BACK_GO, _BACK)
    return rng.choice(with_name).format(name) if both else rng.choice(plain)
