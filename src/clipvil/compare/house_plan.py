"""A house from above with the walks of one episode, for the gallery of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.compare.html import Html, el
from clipvil.compare.results import HousePlan
from clipvil.simulator.graph import Graph

SIZE, EDGE = 240.0, 10.0
NEAR = 4.0
"""Metres around the walks that are drawn of a house without walls."""
APART = 2.5


@dataclass(frozen=True)
class Walk:
    """One way through a house: viewpoint ids, the CSS class of its colour, and how it is called."""

    viewpoints: Sequence[str]
    colour: str
    title: str


def plan_of(graph: Graph, walls: Sequence[Sequence[float]], reference: Sequence[str]) -> HousePlan:
    """What the report keeps of a house."""
    places = {
        name: (round(float(graph.position[n][0]), 2), round(float(graph.position[n][1]), 2))
        for n, name in enumerate(graph.viewpoints)
        if graph.included[n]
    }
    edges = [
        (graph.viewpoints[here], graph.viewpoints[int(there)])
        for here in range(len(graph))
        for there in graph.neighbours[here]
        if there > here
    ]
    return HousePlan(
        places=places,
        edges=edges,
        walls=[(wall[0], wall[1], wall[2], wall[3]) for wall in walls],
        reference=list(reference),
    )


def walls_of(data: Mapping[str, Any], scan: str) -> list[list[float]]:
    """The walls of a miniature house (`plans.json`); none for other corpora, or where the file cannot be read."""
    if data.get("format") != "mini_r2r":
        return []
    try:
        plans = json.loads((Path(str(data["root"])) / "plans.json").read_text(encoding="utf-8"))
        return [[float(value) for value in wall] for wall in plans[scan]["walls"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def draw_plan(plan: HousePlan, walks: Sequence[Walk]) -> Html:
    """An SVG: walls, edges of the graph, the right way as a broad band, and the walks beside one another.

    A walk through a viewpoint that the plan lacks is left out.
    """
    walks = [walk for walk in walks if walk.viewpoints and all(name in plan.places for name in walk.viewpoints)]
    frame = _Frame(plan, walks)
    parts = [_line(frame.at(w[0], w[1]), frame.at(w[2], w[3]), "wall") for w in plan.walls]
    for a, b in plan.edges:
        ends = frame.at(*plan.places[a]), frame.at(*plan.places[b])
        if all(0 <= value <= SIZE for end in ends for value in end):
            parts.append(_line(*ends, "edge"))
    right = [frame.at(*plan.places[name]) for name in plan.reference]
    parts.append(el("polyline", el("title", "the right way"), points=_points(right), class_="right-way"))
    for number, walk in enumerate(walks):
        # A little apart, so that ways along the same edge can be told from each other.
        shift = APART * (number - (len(walks) - 1) / 2)
        points = [(x + shift, y + shift) for x, y in (frame.at(*plan.places[name]) for name in walk.viewpoints)]
        parts.append(el("polyline", el("title", walk.title), points=_points(points), class_=f"walk {walk.colour}"))
        end = {"cx": points[-1][0], "cy": points[-1][1], "r": 3.5, "class_": f"walk-end {walk.colour}"}
        parts.append(el("circle", el("title", walk.title), **end))
    parts.append(el("circle", el("title", "start"), cx=right[0][0], cy=right[0][1], r=5.0, class_="start"))
    about = "House plan with the right way, " + ", ".join(walk.title for walk in walks)
    return el("svg", *parts, viewBox=f"0 0 {SIZE:.0f} {SIZE:.0f}", class_="plan", role="img", aria_label=about)


class _Frame:
    """From metres to the drawing: the whole house where it has walls, else what is near the walks."""

    def __init__(self, plan: HousePlan, walks: Sequence[Walk]) -> None:
        walked = [*plan.reference, *(name for walk in walks for name in walk.viewpoints)]
        shown = [point for wall in plan.walls for point in (wall[:2], wall[2:])]
        margin = 0.3
        if not shown:
            shown, margin = [plan.places[name] for name in walked], NEAR
        self.left, self.low = min(p[0] for p in shown) - margin, min(p[1] for p in shown) - margin
        width, height = max(p[0] for p in shown) + margin - self.left, max(p[1] for p in shown) + margin - self.low
        self.scale = (SIZE - 2 * EDGE) / max(width, height)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """North is up."""
        return EDGE + (x - self.left) * self.scale, SIZE - EDGE - (y - self.low) * self.scale


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _line(a: tuple[float, float], b: tuple[float, float], kind: str) -> Html:
    return el("line", x1=a[0], y1=a[1], x2=b[0], y2=b[1], class_=kind)
