"""Cells that start from another run: which run that is, and which cells share it.

The same recipe to start from, on the same encoder, seed and data, is one run for all cells that need it. Where a cell
of the comparison is that very run, it is taken; else it is a run of its own that no row of the report shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipvil.compare.cell_plan import CellPlan, expanded
from clipvil.compare.suite import slug
from clipvil.tasks.registry import create_task
from clipvil.training.initial import check, content, initial_recipe
from clipvil.training.inputs import load_datasets
from clipvil.training.recipe import Recipe

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset

FOLDER = "initial"


def with_starts(
    cells: Sequence[CellPlan],
    out: Path,
    slugs: Mapping[str, str],
    with_store: Callable[[CellPlan], CellPlan],
) -> tuple[tuple[CellPlan, ...], tuple[CellPlan, ...]]:
    """The cells with what each starts from, and the runs among that which are no cells, in an order to run them in.

    `with_store` gives a cell the feature store of its pictures.
    Raises RecipeError where a recipe cannot start from the one that it names, CheckpointError where a run that it names
    is not there, not finished or without the checkpoints that are needed: no cell could be trained, and a finished one
    would be taken for another.
    """
    resolver = _Resolver(out, slugs, with_store)
    # Those that start from fresh weights first: what a cell starts from must be known before it.
    for cell in sorted(cells, key=lambda cell: _depth(cell.recipe)):
        resolver.cell(cell)
    return tuple(resolver.known[cell.path] for cell in cells), tuple(resolver.initials)


class _Resolver:
    def __init__(self, out: Path, slugs: Mapping[str, str], with_store: Callable[[CellPlan], CellPlan]) -> None:
        self.out, self.slugs, self.with_store = out, slugs, with_store
        self._loaded: dict[str, Mapping[str, Dataset]] = {}
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
            return replace(cell, begins=" ".join(content(str(init.run), init).values()))
        start = self._start(cell, before)
        chosen = init.model_copy(update={"run": str(self.out / start.path)})
        return replace(cell, start=start, recipe=cell.recipe.model_copy(update={"init": chosen}))

    def _start(self, cell: CellPlan, before: Recipe) -> CellPlan:
        name = str(cell.recipe.init.recipe)
        title = slug(Path(name).stem if Path(name).is_file() else name)
        start = replace(cell, task=replace(cell.task, name=title, recipe=before), recipe=before, path="")
        if before.task != cell.recipe.task:
            start = self._on_its_own_data(start, cell)
        start = self._started(replace(start, start=None, begins=""))
        key = start.key()
        if key not in self._by_key:
            path = f"{FOLDER}/{title}-{key[:8]}/{self.slugs[cell.entry.title]}/seed-{cell.seed}"
            self._by_key[key] = replace(start, path=path)
            self.initials.append(self._by_key[key])
        return self._by_key[key]

    def _on_its_own_data(self, start: CellPlan, cell: CellPlan) -> CellPlan:
        """The same on the corpus of its recipe, and on the features of the cell where they are of the same pictures."""
        data = start.recipe.data
        recipe = start.recipe.model_copy(update={"data": expanded(data, self.out)})
        key = json.dumps(recipe.data, sort_keys=True, default=str)
        if key not in self._loaded:
            self._loaded[key] = load_datasets(recipe.data)
        task = replace(start.task, recipe=recipe, data=data, datasets=self._loaded[key], left_out={})
        there = cell.task.pictures()
        if all(there.get(image_id) == path for image_id, path in task.pictures().items()):
            return replace(start, recipe=recipe, task=replace(task, pictures_key=cell.task.data_key))
        return self.with_store(replace(start, recipe=recipe, task=replace(task, pictures_key="")))


def _depth(recipe: Recipe) -> int:
    """How many runs come before."""
    before = initial_recipe(recipe)
    return 0 if before is None else 1 + _depth(before)
