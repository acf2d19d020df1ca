"""Distillation inside a run: the loss beside the task's, its heads, their optimiser and their part of a checkpoint."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clipvil.distillation.curriculum import PREFIX, Curriculum, StudentCells
from clipvil.distillation.mad import Distiller, ramp
from clipvil.distillation.settings import TeacherChoice
from clipvil.distillation.taps import taps_of
from clipvil.distillation.teachers import cache_folder, describe, open_teacher
from clipvil.errors import CheckpointError, RecipeError, UsageError
from clipvil.features.base import FeatureSource
from clipvil.tasks.base import Task
from clipvil.tasks.lessons import Teachable, rows_of
from clipvil.tasks.losses import LossTerms
from clipvil.training.checkpoint import load_optimisers, load_weights, model_tensors, optimiser_tensors
from clipvil.training.inputs import open_features
from clipvil.training.losses import LossModule
from clipvil.training.optim import Optimisers, Part, create_optimiser
from clipvil.training.randomness import seed_everything
from clipvil.training.recipe import EncoderChoice, Recipe

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset

HEADS, HEADS_OPTIMISER = "heads.safetensors", "heads_optimiser.safetensors"
_DTYPES = ("float16", "float32")


def check_distillation(recipe: Recipe, task: Task) -> None:
    """See that the run can be distilled into, before anything is read. Raises RecipeError."""
    if not recipe.distillation.asked:
        return
    if not isinstance(task, Teachable):
        raise RecipeError(f"the task {task.name} does not say what a teacher is shown; set distillation.weight to 0")
    if recipe.features.source == "pictures":
        raise RecipeError("distillation reads features of a store; set features.source to store")
    if int(recipe.model.get("keep_cells") or 0):
        raise RecipeError("distillation must know which cells the student sees; set model.keep_cells to 0")


@dataclass
class Taught:
    """Everything that the teachers said, and what it cost."""

    curriculum: Curriculum
    each: int
    """Lessons a record."""
    seconds: float
    report: dict[str, Any] = field(default_factory=dict)

    def add(self, task: Task, batch: dict[str, Tensor], places: npt.NDArray[np.int64], step: int) -> dict[str, Tensor]:
        """A batch of the task with what the loss of distillation needs. `places` are those of the records."""
        first = torch.from_numpy(places)[:, None] * self.each
        numbers = (first + torch.arange(self.each)).flatten()
        rows = rows_of(task, batch)
        told = self.curriculum.batch(numbers, step, _student_cells(batch, len(rows), self.each))
        if len(rows) != len(batch["question"]) or hasattr(task, "teacher_rows"):
            told[f"{PREFIX}row"] = rows
        return {**batch, **told}


def teach(
    recipe: Recipe,
    task: Task,
    records: Sequence[Any],
    features: FeatureSource,
    datasets: Mapping[str, Dataset],
    out: Path,
    *,
    quiet: bool = False,
) -> Taught:
    """Ask the teachers of a recipe about all training records, from the cache where they were asked before."""
    choice = recipe.distillation
    assert isinstance(task, Teachable)
    folder = cache_folder(choice.cache, out)
    start = time.monotonic()
    encoding = 0.0

    def extract(teacher: TeacherChoice) -> FeatureSource:
        wanted = recipe.encoder.model_copy(update={"name": teacher.encoder, "layer": teacher.layer})
        if wanted == recipe.encoder:
            return features
        nonlocal encoding
        begun = time.monotonic()
        found = _extract(recipe, wanted, {"train": datasets["train"]}, folder, quiet)
        encoding += time.monotonic() - begun
        return found

    teachers = [open_teacher(one, extract) for one in choice.teachers]
    lessons = task.teacher_inputs(records)
    dtype = recipe.features.dtype if recipe.features.dtype in _DTYPES else "float32"
    curriculum = Curriculum(lessons, teachers, choice, cache=folder, dtype=dtype, seed=recipe.seed, quiet=quiet)
    seconds = time.monotonic() - start
    report = {
        "teachers": describe(teachers),
        "texts_read": curriculum.read,
        "seconds": round(seconds, 3),
        "seconds_pictures": round(encoding, 3),
        "seconds_texts": round(curriculum.read_seconds, 3),
    }
    return Taught(curriculum, len(lessons) // max(len(records), 1), seconds, report)


def _extract(
    recipe: Recipe, encoder: EncoderChoice, datasets: Mapping[str, Dataset], folder: Path, quiet: bool
) -> FeatureSource:
    """The features of a teacher, in a store that is named by everything they depend on."""
    pictures = sorted(set(datasets["train"].pictures))
    about = [encoder.model_dump(mode="json"), recipe.features.dtype, datasets["train"].fingerprint, pictures]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    chosen = recipe.features.model_copy(update={"store": str(folder / f"cells-{digest}")})
    return open_features(
        recipe.model_copy(update={"encoder": encoder, "features": chosen}), datasets, folder, quiet=quiet
    )


def _student_cells(batch: Mapping[str, Tensor], lessons: int, each: int) -> StudentCells | None:
    if "shapes" not in batch:
        return None
    records = torch.arange(lessons) // each
    pictures = batch["picture"][records] if "picture" in batch else records
    mask = batch.get("mask")
    regions = bool((batch["shapes"][:, 1] == 1).all()) and "boxes" in batch
    return StudentCells(
        batch["shapes"][pictures],
        batch["boxes"][pictures] if regions else None,
        None if mask is None else mask[pictures],
    )


class DistilledLosses(nn.Module):
    """The losses of task and teachers as one module: what a wrapper for several processes is put around."""

    def __init__(self, losses: LossModule, distiller: Distiller) -> None:
        super().__init__()
        self.losses, self.distiller = losses, distiller
        self.task_factor, self.factor = 1.0, 0.0

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The task's loss and that of distillation, a scalar. Raises UsageError where the task's is none."""
        with self.distiller.reading(batch):
            loss = self.losses(batch)
        if isinstance(loss, LossTerms):
            raise UsageError(
                f"the task {self.losses.task.name} gives its loss in terms, beside which none is distilled"
            )
        # In the adaptive stage the task's loss counts 0 times: so every parameter has a gradient, in every process.
        return self.task_factor * loss + self.factor * self.distiller(batch, trust=self.task_factor > 0)


class Distilling:
    """What the loop holds of distillation. Heads and their optimiser never become part of the model."""

    def __init__(self, recipe: Recipe, taught: Taught, losses: LossModule, device: torch.device) -> None:
        self.recipe, self.choice, self.taught = recipe, recipe.distillation, taught
        seed_everything(recipe.seed, "heads")
        model = losses.model
        self.distiller = Distiller(model, taps_of(model), taught.curriculum.widths(), self.choice).to(device)
        self.losses = DistilledLosses(losses, self.distiller)
        chosen = recipe.optimiser.model_copy(update={"lr": recipe.optimiser.lr * self.choice.head_lr_factor})
        named = dict(self.distiller.named_parameters())
        self.optimisers = Optimisers([Part("heads", create_optimiser(chosen, named), chosen.lr, recipe.schedule)])
        taught.report["head_parameters"] = sum(parameter.numel() for parameter in named.values())

    def begin(self, step: int) -> None:
        """Before the update after `step` updates."""
        self.optimisers.set_rates(step)
        self.optimisers.zero_grad()
        self.losses.task_factor = 0.0 if step < self.choice.adaptive_steps else 1.0
        self.losses.factor = self.choice.weight * ramp(self.choice.schedule, step, self.recipe.schedule.steps)

    def step(self, limit: float) -> dict[str, float]:
        """Update the heads, their gradient no longer than `limit`; what was measured, for the log."""
        nn.utils.clip_grad_norm_(self.distiller.parameters(), limit)
        self.optimisers.step()
        return {f"distil_{name}": float(value) for name, value in self.distiller.seen.items()}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Further files of a checkpoint."""
        return {
            HEADS: model_tensors(self.distiller),
            HEADS_OPTIMISER: optimiser_tensors(self.distiller, self.optimisers),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint says of the teachers."""
        return {"distillation": self.taught.report["teachers"]}

    def load(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Take up heads and optimiser. Raises CheckpointError where the teachers are others, or files are missing."""
        if state.get("distillation") != self.taught.report["teachers"]:
            raise CheckpointError(
                f"{folder}: was distilled from other teachers ({state.get('distillation')}); take another --out"
            )
        load_weights(folder / HEADS, self.distiller)
        load_optimisers(folder / HEADS_OPTIMISER, self.distiller, self.optimisers)
