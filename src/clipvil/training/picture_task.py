"""Any task on grids, made to train the encoder as well: it reads pictures where it read features."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import CheckpointError, UsageError
from clipvil.features.base import GridBatch
from clipvil.models.grid_trunk import GridTrunk
from clipvil.models.picture_model import PictureModel
from clipvil.tasks.around import Around
from clipvil.tasks.base import InitialRun, Prediction, Task, begin, light, trains
from clipvil.tasks.losses import LossTerms
from clipvil.tasks.registry import create_task
from clipvil.training.inputs import encoder_of
from clipvil.training.pixels import PictureSource
from clipvil.training.recipe import Recipe


def task_of(recipe: Recipe) -> Task:
    """The task that a recipe names; with `features.source: pictures`, trained from pictures.

    Raises UsageError for an unknown name, or a task that cannot be trained from pictures.
    """
    task = create_task(recipe.task, recipe.task_settings)
    if recipe.features.source == "store":
        return task
    if not trains(task):
        raise UsageError(f"the task {recipe.task} trains nothing: features.source must be store")
    return PictureTask(task, recipe)


class PictureTask(Around):
    """A task around another one, which need not know that its cells are computed anew in each batch.

    `collate` lets the inner task ask for features, notes which pictures it asked for, and puts their pixels in the
    place of the cells. If it asks for each picture once (and says itself which sentence is about which), it gets the
    cells of the distinct pictures; if it asks for one a record, it gets one a record, encoded once a picture all the
    same. What a task may have beside the protocol (`order`, `units`, ...) is the inner task's.
    """

    def __init__(self, inner: Task, recipe: Recipe) -> None:
        super().__init__(inner)
        self.name, self.recipe = inner.name, recipe

    def __getattr__(self, name: str) -> Any:
        # Never for what copying and pickling ask before anything is there.
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.inner, name)
        return self._adopt if name == "adopt" else found

    def light(self) -> PictureTask:
        """As the inner task judges while it trains."""
        return PictureTask(light(self.inner), self.recipe)

    def _adopt(self, model: nn.Module, initial: InitialRun) -> Any:
        """Take the encoder of a run that trained one, and let the inner task take over the rest."""
        whole = _picture_model(model)
        tensors = load_file(initial.weights)
        trunk = {name[6:]: tensors.pop(name) for name in list(tensors) if name.startswith("trunk.")}
        if not trunk:
            return self.inner.adopt(whole.head, initial)  # type: ignore[attr-defined]
        try:
            whole.trunk.load_state_dict(trunk)
        except RuntimeError as error:
            raise CheckpointError(f"init: its encoder does not fit: {' '.join(str(error).split())}") from None
        with tempfile.TemporaryDirectory() as folder:
            rest = Path(folder) / initial.weights.name
            save_file({name.removeprefix("head."): tensor for name, tensor in tensors.items()}, rest)
            return self.inner.adopt(whole.head, replace(initial, weights=rest))  # type: ignore[attr-defined]

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A `PictureModel`: the encoder that the recipe names, with its weights, and the inner task's model."""
        head = self.inner.build(model, encoder)
        chosen, trunk = encoder_of(self.recipe.encoder), self.recipe.trunk
        return PictureModel(
            GridTrunk(chosen, trained=trunk.trained, norm=trunk.batch_norm, checkpointing=trunk.checkpointing),
            head,
            chosen.preprocess,
            padding=self.recipe.pictures.padding,
        )

    def begin(self, model: nn.Module) -> dict[str, Any]:
        """See `clipvil.tasks.base.begin`: what the inner task does with its own model."""
        return begin(self.inner, _picture_model(model).head)

    def collate(self, records: Sequence[Any], features: Any) -> dict[str, Tensor]:
        """The inner task's batch with pixels in the place of the cells.

        `pixels` (P, 3, H, W) uint8, `pixel_sizes` (P, 2), `pixel_boxes` (P, 4) and, where pictures repeat, `pixel_rows`
        (B,): see `clipvil.training.pixels.PixelBatch`.
        """
        asked = _Asked(features)
        batch = self.inner.collate(records, asked)
        for name in ("cells", "mask", "shapes"):
            batch.pop(name, None)
        found = features.pixels(asked.image_ids)
        batch |= {"pixels": found.pixels, "pixel_sizes": found.sizes, "pixel_boxes": found.boxes}
        if len(found.rows) != len(found.pixels):
            batch["pixel_rows"] = found.rows
        return batch

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor | LossTerms:
        """The inner task's loss on cells that were encoded just now."""
        whole = _picture_model(model)
        return self.inner.loss(whole.head, whole.encoded(batch))

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Any]) -> list[Prediction]:
        """The inner task's predictions on cells that were encoded just now. No gradients."""
        whole = _picture_model(model)
        with torch.no_grad():
            return self.inner.predict(whole.head, whole.encoded(batch), records)


def _picture_model(model: nn.Module) -> PictureModel:
    if not isinstance(model, PictureModel):
        raise UsageError(f"a task that reads pictures was given a {type(model).__name__} without an encoder")
    return model


class _Asked:
    """Takes the place of the features while a batch is put together, and remembers the pictures that were asked for."""

    def __init__(self, source: PictureSource) -> None:
        self.spec, self._source = source.spec, source
        self.image_ids: list[str] = []

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._source

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Cells without meaning, (B, 1, 1). Raises UsageError when asked twice in one batch."""
        if self.image_ids:
            raise UsageError("a task that asks for features twice in a batch cannot be trained from pictures")
        self.image_ids = list(image_ids)
        count = len(image_ids)
        return GridBatch(torch.zeros(count, 1, 1), None, torch.ones(count, 2, dtype=torch.int64))
