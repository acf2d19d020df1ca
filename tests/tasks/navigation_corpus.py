"""A house of nine rooms in the official files, with instructions that can be followed without seeing anything."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from clipvil.training.recipe import Recipe
from tests.simulator.build import rows, write

SCAN = "grid"
NAMES = [f"r{column}{row}" for column in range(3) for row in range(3)]
WAYS = {(1, 0): "east", (-1, 0): "west", (0, 1): "north", (0, -1): "south"}


def write_corpus(folder: Path) -> dict[str, Any]:
    """Write graph and splits; returns the data section."""
    places = {f"r{c}{r}": (4.0 * c + 0.3 * r, 4.0 * r - 0.2 * c, 0.0) for c in range(3) for r in range(3)}
    edges = [
        (a, b)
        for a, b in itertools.combinations(NAMES, 2)
        if abs(int(a[1]) - int(b[1])) + abs(int(a[2]) - int(b[2])) == 1
    ]
    write(folder / "connectivity", SCAN, rows(places, edges))
    paths = [
        path
        for a, b, c in itertools.permutations(NAMES, 3)
        if {frozenset((a, b)), frozenset((b, c))} <= {frozenset(edge) for edge in edges}
        for path in ([a, b, c],)
    ]
    for split, chosen in {"train": paths[::2], "val": paths[1::4], "test": paths[3::4]}.items():
        content = [
            {
                "scan": SCAN,
                "path_id": 100 * (len(split)) + number,
                "path": path,
                "heading": 0.0,
                "distance": 8.0,
                "instructions": [f"go {said} .", f"walk {said} and stop ."],
            }
            for number, path in enumerate(chosen)
            for said in (" then ".join(way(a, b) for a, b in itertools.pairwise(path)),)
        ]
        (folder / f"{split}.json").write_text(json.dumps(content))
    splits = {split: f"{split}.json" for split in ("train", "val", "test")}
    return {"format": "r2r", "root": str(folder), "graphs": "connectivity", **splits}


def way(here: str, there: str) -> str:
    return WAYS[int(there[1]) - int(here[1]), int(there[2]) - int(here[2])]


MODEL = {"preset": "mini", "hidden": 16, "word_size": 8, "action_size": 4, "angle_size": 8}


def recipe(data: dict[str, Any], *overrides: str, task: str = "navigation", **settings: Any) -> Recipe:
    """A small recipe of a blind agent: the graph and the words alone."""
    return Recipe.from_values(
        {
            "task": task,
            "task_settings": {"min_word_count": 1, "max_steps": 5, **settings},
            "data": data,
            "encoder": {"name": "question-only"},
            "model": MODEL,
            "optimiser": {"lr": 0.01},
            "schedule": {"name": "constant", "steps": 4},
            "training": {"batch_size": 8, "evaluate_every": 4, "threads": 1, "grad_clip": 5.0},
        },
        overrides,
    )
