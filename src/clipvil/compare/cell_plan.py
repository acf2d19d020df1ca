"""One cell of a comparison, and the task that it is of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.compare.kinds import Kind, kind_of
from clipvil.compare.suite import EncoderEntry
from clipvil.datasets.columns import column_of, rows_of
from clipvil.datasets.listed import corpus_of
from clipvil.tasks.base import refusal, trains, units
from clipvil.tasks.registry import create_task
from clipvil.training.inputs import is_labelled
from clipvil.training.recipe import InitChoice, Recipe

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
    question_only: bool = True
    """Whether it is also done without pictures."""
    minus: tuple[str, ...] | None = None
    """Names of the earlier tasks that it is held against; None: all that can be."""
    pictures_key: str = ""
    """`data_key` of the task whose pictures these are among: of what a cell starts from, where it reads another corpus
    about the same pictures."""
    seed_overrides: Mapping[int, Sequence[str]] = field(default_factory=dict)
    """What single seeds change in the recipe."""
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

    @property
    def kind(self) -> Kind:
        """What is said of it by its metric."""
        return kind_of(create_task(self.recipe.task, self.recipe.task_settings).metric)

    @property
    def baseline(self) -> bool:
        """Whether tasks that are scored alike are held against this one, which trains nothing."""
        return self.kind.untrained_is_baseline and not self.trains

    def refusal(self, encoder: str) -> str:
        """Why the task cannot be done with an encoder, as far as its name tells; empty where it can."""
        return refusal(create_task(self.recipe.task, self.recipe.task_settings), encoder)

    @property
    def source(self) -> dict[str, Any]:
        """The entries of the data section that say where the pictures are, whatever is asked about them."""
        return {key: value for key, value in corpus_of(self.data).items() if key != "format"}

    @cached_property
    def data_key(self) -> str:
        """Eight hex digits that stand for the pictures: tasks that share them share features, whatever they ask."""
        if self.pictures_key:
            return self.pictures_key
        root = str(corpus_of(self.recipe.data).get("root") or "")
        files = sorted((image_id, _within(path, root)) for image_id, path in self.pictures().items())
        text = json.dumps([self.source, files], sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]

    @cached_property
    def _units(self) -> dict[str, Sequence[Any]]:
        return {}

    def units(self, split: str) -> Sequence[Any]:
        """What the task makes of all records of a split: what it predicts, one by one."""
        if split not in self._units:
            task = create_task(self.recipe.task, self.recipe.task_settings)
            self._units[split] = units(task, self.datasets[split].records)
        return self._units[split]

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
    start: CellPlan | None = None
    """The run that this one starts from, where the comparison trains it: another cell, or one that no row shows."""
    begins: str = ""
    """Checksums of all that it takes over, where the recipe names a run that was there before."""

    def starts(self) -> list[CellPlan]:
        """The runs that come before it, nearest first."""
        return [] if self.start is None else [self.start, *self.start.starts()]

    def key(self) -> str:
        """A hash of everything that can change the result, wherever the comparison and its data lie; but for the

        pictures that are left out, which are known only once all features are there.
        """
        # What it starts from counts by what it is, not by its name or place.
        recipe = self.recipe.model_copy(update={"init": InitChoice()})
        if self.content:
            recipe = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"name": self.content})})
        values = recipe.model_copy(update={"data": dict(self.task.data)}).hash()
        data = {name: dataset.fingerprint for name, dataset in self.task.datasets.items()}
        parts: list[Any] = [values, data]
        if self.recipe.init.asked:
            begins = self.start.key() if self.start is not None else self.begins
            parts.append([begins, self.recipe.init.weights, self.recipe.init.optimiser])
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def expanded(value: Any, out: Path) -> Any:
    """Put the folder of the comparison in the place of `{out}`."""
    if isinstance(value, str):
        return value.replace("{out}", str(out))
    if isinstance(value, Mapping):
        return {key: expanded(item, out) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [expanded(item, out) for item in value]
    return value


def _within(path: Path, root: str) -> str:
    """A path below the root of its corpus, wherever that lies."""
    return str(path.relative_to(root)) if root and path.is_relative_to(root) else str(path)
