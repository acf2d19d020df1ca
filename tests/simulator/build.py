"""Small graphs made by hand, in the published file format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipvil.datasets.connectivity import Graphs

Point = tuple[float, float, float]


def rows(
    points: dict[str, Point], edges: list[tuple[str, str]], *, excluded: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """The content of a connectivity file; edges hold both ways."""
    names = list(points)
    ways = {frozenset(edge) for edge in edges}
    out = []
    for name in names:
        x, y, z = points[name]
        out.append(
            {
                "image_id": name,
                "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
                "included": name not in excluded,
                "visible": [other != name for other in names],
                "unobstructed": [frozenset((name, other)) in ways and other != name for other in names],
                "height": 1.5,
            }
        )
    return out


def write(folder: Path, scan: str, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scan}_connectivity.json"
    path.write_text(json.dumps(content))
    return path


SQUARE: dict[str, Point] = {
    "sw": (0.0, 0.0, 0.0),
    "se": (2.0, 0.0, 0.0),
    "nw": (0.0, 2.0, 0.0),
    "ne": (2.0, 2.0, 0.0),
    "far": (2.0, 8.0, 2.0),
    "off": (9.0, 9.0, 0.0),
}
SIDES = [("sw", "se"), ("sw", "nw"), ("se", "ne"), ("nw", "ne"), ("ne", "far"), ("far", "off")]


def square(folder: Path) -> Graphs:
    """Scan `house`: a square whose opposite corners have two ways of equal length, a far room, an excluded place."""
    write(folder, "house", rows(SQUARE, SIDES, excluded=("off",)))
    return Graphs(folder)
