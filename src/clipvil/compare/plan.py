"""What a suite comes to: the recipe of every cell, the data they share, the folders they lie in."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.compare.suite import BLIND, EncoderEntry, Suite, slug, unique_slugs
from clipvil.datasets.columns import column_of, rows_of
from clipvil.encoders.registry import check_encoder
from clipvil.errors import DataError, UsageError
from clipvil.features.ready import ready_store
from clipvil.images.resize import policy
from clipvil.tasks.base import refusal, trains
from clipvil.tasks.registry import create_task
from clipvil.training.inputs import is_labelled, load_datasets, local_fingerprint, open_ready
from clipvil.training.recipe import Recipe
from clipvil.training.recipe_files import packaged_recipes, read_recipe_file

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset

TRAINING_SPLITS = ("train", "val")


@dataclass(frozen=True)
class TaskPlan:
    """One task of the suite: its recipe without encoder and seed, and its corpus, read once for all cells."""

    name: str
    recipe: Recipe
    data: Mapping[str, Any]
    """The data section as it was written, `{out}` in it: the same wherever the comparison lies."""
    datasets: Mapping[str, Dataset]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Pictures that no cell may use because one encoder has no features of them, and why: see `left_out`."""

    def records(self, split: str) -> Sequence[Any]:
        """The records of a split that every cell is trained on or judged by."""
        records = self.datasets[split].records
        if not self.left_out:
            return records
        image_ids = column_of(records, "image_id")
        return rows_of(records, [row for row, image_id in enumerate(image_ids) if image_id not in self.left_out])

    @property
    def test_splits(self) -> list[str]:
        """Splits to report, the ordinary test split first; `val` where the corpus has no answered test split."""
        names = [
            name for name in self.datasets if name not in TRAINING_SPLITS and is_labelled(self.datasets[name].records)
        ]
        return names or ["val"]

    @property
    def trains(self) -> bool:
        """Whether a seed can change anything: a task without training is run once an encoder."""
        return trains(create_task(self.recipe.task, self.recipe.task_settings))

    def refusal(self, encoder: str) -> str:
        """Why the task cannot be done with an encoder, as far as its name tells; empty where it can."""
        return refusal(create_task(self.recipe.task, self.recipe.task_settings), encoder)

    @cached_property
    def data_key(self) -> str:
        """Eight hex digits that stand for the corpus: tasks that share them share features."""
        text = json.dumps([dict(self.data), sorted(self.pictures())], sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]

    def pictures(self) -> dict[str, Path]:
        """Every picture of every split, once."""
        return {image_id: path for dataset in self.datasets.values() for image_id, path in dataset.pictures.items()}


@dataclass(frozen=True)
class CellPlan:
    """One training run: which, with what recipe, and in which folder."""

    entry: EncoderEntry
    task: TaskPlan
    seed: int
    recipe: Recipe
    path: str
    """Relative to the folder of the comparison."""
    content: str = ""
    """Of an encoder whose name does not say what it is: a hash of what a ready store holds, or the fingerprint of

    weights that are local files. Empty for published weights, and where the encoder cannot be built.
    """

    def key(self) -> str:
        """A hash of everything that can change the result, wherever the comparison and its data lie; but for the

        pictures that are left out, which are known only once all features are there.
        """
        recipe = self.recipe
        if self.content:
            recipe = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"name": self.content})})
        values = recipe.model_copy(update={"data": dict(self.task.data)}).hash()
        data = {name: dataset.fingerprint for name, dataset in self.task.datasets.items()}
        return hashlib.sha256(json.dumps([values, data], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Plan:
    """The whole matrix, encoder by encoder, so that one feature store at a time is in use."""

    suite: Suite
    out: Path
    tasks: tuple[TaskPlan, ...]
    cells: tuple[CellPlan, ...]
    slugs: Mapping[str, str] = field(default_factory=dict)

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
        tasks = {task.name: replace(task, left_out=dict(pictures.get(task.data_key, {}))) for task in self.tasks}
        cells = tuple(replace(cell, task=tasks[cell.task.name]) for cell in self.cells)
        return replace(self, tasks=tuple(tasks.values()), cells=cells)


def make_plan(suite: Suite, out: Path, contents: Mapping[str, str] | None = None) -> Plan:
    """Read recipes and data of a suite, and look at encoders whose name does not say what they are.

    `contents` are those of the cells by their path, where another process has found them out.

    Raises:
        RecipeError, DataError, UsageError: the recipe, the data or the combination is wrong; nothing was computed yet.
        StoreError: a store named as an encoder is not there, not finished or damaged.
    """
    loaded: dict[str, Mapping[str, Dataset]] = {}
    tasks = tuple(_task(name, suite, out, loaded) for name in suite.tasks)
    slugs = unique_slugs(suite.labels())
    folders = unique_slugs([task.name for task in tasks])
    cells = []
    content_of = _Contents()
    for entry in suite.entries():
        for task in tasks:
            if task.refusal(entry.name):
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
    return Plan(suite, out, tasks, tuple(_with_store(plan, cell) for cell in cells), slugs)


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


def _task(name: str, suite: Suite, out: Path, loaded: dict[str, Mapping[str, Dataset]]) -> TaskPlan:
    source = recipe_for(name, (suite.data or {}).get("format"))
    values, where = read_recipe_file(source)
    if suite.data is not None:
        values = {**values, "data": suite.data}
    written = Recipe.from_values(values, suite.overrides, where=where)
    data = written.data
    if not data:
        raise UsageError(f"{where} names no data; give --data")
    recipe = written.model_copy(update={"data": _expanded(data, out)})
    key = json.dumps(recipe.data, sort_keys=True, default=str)
    if key not in loaded:
        loaded[key] = load_datasets(recipe.data)
    for split in TRAINING_SPLITS:
        if split not in loaded[key]:
            raise DataError(f"the data has no split '{split}' (it has {', '.join(loaded[key])}): a comparison trains")
    return TaskPlan(slug(Path(name).stem if Path(name).is_file() else name), recipe, data, loaded[key])


def _recipe(entry: EncoderEntry, task: TaskPlan, seed: int) -> Recipe:
    encoder = task.recipe.encoder.model_copy(update={"name": entry.name, **entry.choices()})
    return task.recipe.model_copy(update={"encoder": encoder, "seed": seed})


def _with_store(plan: Plan, cell: CellPlan) -> CellPlan:
    """The recipe that is written beside a run names its store, so that `clipvil evaluate` on the run finds it."""
    store = plan.store_path(cell)
    if store is None:
        return cell
    features = cell.recipe.features.model_copy(update={"store": str(store)})
    recipe = cell.recipe.model_copy(update={"features": features})
    return replace(cell, recipe=recipe)


def _expanded(value: Any, out: Path) -> Any:
    """Put the folder of the comparison in the place of `{out}`."""
    if isinstance(value, str):
        return value.replace("{out}", str(out))
    if isinstance(value, Mapping):
        return {key: _expanded(item, out) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_expanded(item, out) for item in value]
    return value
