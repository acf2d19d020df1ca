"""Cells that start from another run: which run that is, and which cells share it.

The same recipe to start from, on the same encoder, seed and data, is one run for all cells that need it. Where a cell
of the comparison is that very run, it is taken; else it is a run of its own that no row of the report shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from clipvil.compare.cell_plan import CellPlan
from clipvil.compare.suite import slug
from clipvil.tasks.registry import create_task
from clipvil.training.checkpoint import sha256
from clipvil.training.initial import check, initial_recipe
from clipvil.training.recipe import Recipe
from clipvil.training.run_files import BEST

FOLDER = "initial"


def with_starts(
    cells: Sequence[CellPlan], out: Path, slugs: Mapping[str, str]
) -> tuple[tuple[CellPlan, ...], tuple[CellPlan, ...]]:
    """The cells with what each starts from, and the runs among that which are no cells, in an order to run them in.

    Raises RecipeError where a recipe cannot start from the one that it names.
    """
    resolver = _Resolver(out, slugs)
    # Those that start from fresh weights first: what a cell starts from must be known before it.
    for cell in sorted(cells, key=lambda cell: _depth(cell.recipe)):
        resolver.cell(cell)
    return tuple(resolver.known[cell.path] for cell in cells), tuple(resolver.initials)


class _Resolver:
    def __init__(self, out: Path, slugs: Mapping[str, str]) -> None:
        self.out, self.slugs = out, slugs
        self.known: dict[str, CellPlan] = {}
        self.initials: list[CellPlan] = []
        self._by_key: dict[str, CellPlan] = {}

    def cell(self, cell: CellPlan) -> None:
        """Take a cell of the comparison."""
        found = self._started(cell)
        self.known[cell.path] = found
        # Seeds and labels apart, two cells may be the same run; the first serves.
        self._by_key.setdefault(found.key(), found)

    def _started(self, cell: CellPlan) -> CellPlan:
        init = cell.recipe.init
        if not init.asked:
            return cell
        check(cell.recipe, create_task(cell.recipe.task, cell.recipe.task_settings))
        before = initial_recipe(cell.recipe)
        if before is None:
            return replace(cell, begins=_content(Path(str(init.run)) / BEST))
        start = self._start(cell, before)
        chosen = init.model_copy(update={"run": str(self.out / start.path)})
        return replace(cell, start=start, recipe=cell.recipe.model_copy(update={"init": chosen}))

    def _start(self, cell: CellPlan, before: Recipe) -> CellPlan:
        name = str(cell.recipe.init.recipe)
        title = slug(Path(name).stem if Path(name).is_file() else name)
        task = replace(cell.task, name=title, recipe=before)
        start = self._started(replace(cell, task=task, recipe=before, path="", start=None, begins=""))
        key = start.key()
        if key not in self._by_key:
            path = f"{FOLDER}/{title}-{key[:8]}/{self.slugs[cell.entry.title]}/seed-{cell.seed}"
            self._by_key[key] = replace(start, path=path)
            self.initials.append(self._by_key[key])
        return self._by_key[key]


def _depth(recipe: Recipe) -> int:
    """How many runs come before."""
    before = initial_recipe(recipe)
    return 0 if before is None else 1 + _depth(before)


def _content(weights: Path) -> str:
    return sha256(weights) if weights.is_file() else str(weights)
