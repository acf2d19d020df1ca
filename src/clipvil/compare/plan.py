"""What a suite comes to: the recipe of every cell, the data they share, the folders they lie in."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipvil.compare.cell_plan import TRAINING_SPLITS, CellPlan, TaskPlan, expanded
from clipvil.compare.starts import with_starts
from clipvil.compare.suite import BLIND, EncoderEntry, Suite, TaskEntry, slug, unique_slugs
from clipvil.encoders.registry import check_encoder
from clipvil.errors import DataError, UsageError
from clipvil.features.ready import ready_store
from clipvil.images.resize import policy
from clipvil.training.inputs import load_datasets, local_fingerprint, open_ready
from clipvil.training.recipe import Recipe
from clipvil.training.recipe_files import packaged_recipes, read_recipe_file

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset


@dataclass(frozen=True)
class Plan:
    """The whole matrix, encoder by encoder, so that one feature store at a time is in use."""

    suite: Suite
    out: Path
    tasks: tuple[TaskPlan, ...]
    cells: tuple[CellPlan, ...]
    slugs: Mapping[str, str] = field(default_factory=dict)
    initials: tuple[CellPlan, ...] = ()
    """Runs that cells start from and that are no cells themselves, each after those that it starts from itself."""

    def runs(self) -> list[CellPlan]:
        """Everything that is trained: what cells start from, and the cells."""
        return [*self.initials, *self.cells]

    def keeps_checkpoints(self, cell: CellPlan, among: Sequence[CellPlan] | None = None) -> bool:
        """Whether another run (one of `among`, where given) starts from more than the best weights of this one."""
        starting = (
            run
            for run in (self.runs() if among is None else among)
            if run.start is not None and run.start.path == cell.path
        )
        return any(run.recipe.init.weights == "last" or run.recipe.init.optimiser for run in starting)

    def store_path(self, cell: CellPlan) -> Path | None:
        """The feature store of a cell, shared by seeds and tasks; None for the question-only row."""
        if cell.entry.name == BLIND:
            return None
        ready = ready_store(cell.entry.name)
        if ready is not None:
            return ready
        # All that must agree for two cells to share features: whatever is changed between two calls, weights behind the
        # same name among it, the second finds a folder of its own and no store that refuses it.
        recipe = cell.recipe
        choices = [recipe.encoder.model_dump(mode="json"), recipe.features.dtype, recipe.features.precision]
        text = json.dumps([cell.task.data_key, cell.content, choices], sort_keys=True)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return self.out / "features" / f"{self.slugs[cell.entry.title]}-{key}"

    def leaving_out(self, pictures: Mapping[str, Mapping[str, str]]) -> Plan:
        """The same plan with other pictures left out, by `data_key` of the tasks."""

        def task(one: TaskPlan) -> TaskPlan:
            return replace(one, left_out=dict(pictures.get(one.data_key, {})))

        def cell(one: CellPlan) -> CellPlan:
            return replace(one, task=task(one.task), start=None if one.start is None else cell(one.start))

        tasks = {one.name: task(one) for one in self.tasks}
        cells = tuple(replace(cell(one), task=tasks[one.task.name]) for one in self.cells)
        return replace(self, tasks=tuple(tasks.values()), cells=cells, initials=tuple(map(cell, self.initials)))


def make_plan(suite: Suite, out: Path, contents: Mapping[str, str] | None = None) -> Plan:
    """Read recipes and data of a suite, and look at encoders whose name does not say what they are.

    `contents` are those of the cells by their path, where another process has found them out.

    Raises:
        RecipeError, DataError, UsageError: the recipe, the data or the combination is wrong; nothing was computed yet.
        StoreError: a store named as an encoder is not there, not finished or damaged.
        CheckpointError: a run to start from is not there, not finished or without the checkpoints that are needed.
    """
    loaded: dict[str, Mapping[str, Dataset]] = {}
    tasks = tuple(_task(entry, suite, out, loaded) for entry in suite.tasks)
    tasks = share_pictures(tasks) if suite.share_features else tasks
    slugs = unique_slugs(suite.labels())
    folders = unique_slugs([task.name for task in tasks])
    cells = []
    content_of = _Contents()
    for entry in suite.entries():
        for task in tasks:
            if task.refusal(entry.name) or (entry.name == BLIND and not task.question_only):
                continue
            for seed in suite.seeds if task.trains else suite.seeds[:1]:
                path = f"cells/{folders[task.name]}/{slugs[entry.title]}/seed-{seed}"
                recipe = _recipe(entry, task, seed)
                content = content_of(recipe) if contents is None else contents[path]
                cells.append(CellPlan(entry, task, seed, recipe, path, content))
    if not cells:
        reason = tasks[0].refusal(suite.encoders[0].name)
        raise UsageError(f"nothing to run: {suite.encoders[0].name} on {tasks[0].name}: {reason}")
    plan = Plan(suite, out, tasks, tuple(cells), slugs)
    stored = [_with_store(plan, cell) for cell in cells]
    started, initials = with_starts(stored, out, slugs, lambda cell: _with_store(plan, cell))
    return replace(plan, cells=started, initials=initials)


def check_encoders(plan: Plan) -> None:
    """Refuse encoders, layers and resize policies that do not exist, before anything is computed for the others.

    Only names are looked at. An encoder whose store is there was built before; importing its library would only cost
    time. Raises UsageError.
    """
    for cell in plan.cells:
        store, choice = plan.store_path(cell), cell.recipe.encoder
        if store is not None and not (store / "manifest.json").exists():
            check_encoder(choice.name, layer=choice.layer)
            policy(choice.resize)


class _Contents:
    """`CellPlan.content` of recipes, found out once an encoder."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, recipe: Recipe) -> str:
        """Raises StoreError for a store that cannot be read; an encoder that cannot be built fails in its cells."""
        key = recipe.encoder.model_dump_json()
        if key not in self._known:
            ready = ready_store(recipe.encoder.name)
            self._known[key] = open_ready(ready).content() if ready is not None else _fingerprint(recipe)
        return self._known[key]


def _fingerprint(recipe: Recipe) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are told when the encoder is put to work
        try:
            return local_fingerprint(recipe.encoder)
        except Exception:
            return ""


def recipe_for(task: str, data_format: str | None) -> str:
    """The recipe that a task's name stands for: a file, a packaged recipe, or the packaged one that fits the data.

    Raises:
        UsageError: there is none.
    """
    packaged = packaged_recipes()
    if Path(task).is_file() or task in packaged:
        return task
    fitting = [f"{data_format}/{task}", f"{task}/{data_format}", f"custom/{task}", f"mini/{task}"]
    found = next((name for name in fitting if name in packaged), None)
    if found is None:
        raise UsageError(f"no recipe for the task '{task}'; name a file or one of {', '.join(packaged)}")
    return found


def recipe_of(entry: TaskEntry, suite: Suite) -> tuple[Recipe, str]:
    """The recipe of a task with what the suite changes in it, `{out}` still in its data, and its name in errors.

    Raises:
        UsageError: there is no such recipe.
        RecipeError: there is something wrong with it, or with a change.
    """
    # Where the suite leaves the format to the recipes, its own name is the hint: `vqa` in the suite mini is mini/vqa.
    source = recipe_for(entry.recipe, (suite.data or {}).get("format") or suite.name.partition("-")[0])
    values, where = read_recipe_file(source)
    if suite.data is not None:
        values = {**values, "data": suite.data if "format" in suite.data else {**values.get("data", {}), **suite.data}}
    overrides = (*entry.overrides, *suite.overrides)
    return _with_overrides(Recipe.from_values(values, overrides, where=where), suite), where


def share_pictures(tasks: Sequence[TaskPlan]) -> tuple[TaskPlan, ...]:
    """The tasks, each whose pictures are all among those of another task from the same place on that one's features.

    The task with the most pictures keeps its own; of equally many, the first.
    """
    pictures = {id(task.datasets): task.pictures() for task in tasks}
    chosen: list[tuple[TaskPlan, dict[str, Path]]] = []
    for task in sorted(tasks, key=lambda task: -len(pictures[id(task.datasets)])):
        own = pictures[id(task.datasets)]
        if not any(task.source == other.source and own.items() <= there.items() for other, there in chosen):
            chosen.append((task, own))
    out = []
    for task in tasks:
        own = pictures[id(task.datasets)]
        found = next((t for t, there in chosen if task.source == t.source and own.items() <= there.items()), task)
        out.append(task if found.data_key == task.data_key else replace(task, pictures_key=found.data_key))
    return tuple(out)


def _task(entry: TaskEntry, suite: Suite, out: Path, loaded: dict[str, Mapping[str, Dataset]]) -> TaskPlan:
    written, where = recipe_of(entry, suite)
    data = written.data
    if not data:
        raise UsageError(f"{where} names no data; give --data")
    recipe = written.model_copy(update={"data": expanded(data, out)})
    key = json.dumps(recipe.data, sort_keys=True, default=str)
    if key not in loaded:
        loaded[key] = load_datasets(recipe.data)
    for split in TRAINING_SPLITS:
        if split not in loaded[key]:
            raise DataError(f"the data has no split '{split}' (it has {', '.join(loaded[key])}): a comparison trains")
    minus = None if entry.minus is None else tuple(map(_name, entry.minus))
    return TaskPlan(
        _name(entry.title),
        recipe,
        data,
        loaded[key],
        question_only=entry.question_only,
        minus=minus,
        seed_overrides=entry.seed_overrides,
    )


def _name(title: str) -> str:
    """What tables and folders call a task: a file by its stem."""
    return slug(Path(title).stem if Path(title).is_file() else title)


def _with_overrides(recipe: Recipe, suite: Suite) -> Recipe:
    """What is changed in every recipe is also changed in those that a recipe starts from, their data among it."""
    if recipe.init.recipe is None:
        return recipe
    further = _further(recipe.init.recipe, suite)
    chosen = recipe.init.model_copy(update={"overrides": (*recipe.init.overrides, *further)})
    return recipe.model_copy(update={"init": chosen})


def _further(source: str, suite: Suite, seen: tuple[str, ...] = ()) -> list[str]:
    """What the suite changes in a recipe to start from, and through it in the one that this starts from itself.

    Of the data all where the recipe reads the suite's format, or the suite leaves the format to the recipes; else
    nothing: a format of its own stands in the suite for all tasks that read it.
    """
    values, _ = read_recipe_file(source)
    found = [override for override in suite.overrides if not override.startswith("init.")]
    data = suite.data or {}
    if "format" not in data or data["format"] == (values.get("data") or {}).get("format"):
        found += [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    init = values.get("init") or {}
    if init.get("recipe") and source not in seen:  # one that starts from itself is refused later, by name
        further = [*init.get("overrides", ()), *_further(init["recipe"], suite, (*seen, source))]
        found.append(f"init.overrides={json.dumps(further)}")
    return found


def _recipe(entry: EncoderEntry, task: TaskPlan, seed: int) -> Recipe:
    recipe = task.recipe.with_overrides(*task.seed_overrides.get(seed, ()))
    encoder = recipe.encoder.model_copy(update={"name": entry.name, **entry.choices()})
    return recipe.model_copy(update={"encoder": encoder, "seed": seed})


def _with_store(plan: Plan, cell: CellPlan) -> CellPlan:
    """The recipe that is written beside a run names its store, so that `clipvil evaluate` on the run finds it."""
    store = plan.store_path(cell)
    if store is None:
        return cell
    features = cell.recipe.features.model_copy(update={"store": str(store)})
    recipe = cell.recipe.model_copy(update={"features": features})
    return replace(cell, recipe=recipe)
