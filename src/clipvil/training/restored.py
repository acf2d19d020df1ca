"""A finished run with the encoder that it was trained with, ready for pictures that it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clipvil.encoders.base import Encoder, EncoderSpec
from clipvil.errors import CheckpointError, StoreError
from clipvil.features.base import GridBatch
from clipvil.features.blind import BlindSource
from clipvil.images.normalise import normalise
from clipvil.images.resize import policy
from clipvil.tasks.base import Task
from clipvil.training.inputs import BLIND, encoder_of, other_encoder
from clipvil.training.recipe import Recipe
from clipvil.training.run import restore
from clipvil.training.run_files import read_json, read_recipe

if TYPE_CHECKING:
    from PIL import Image

    from clipvil.images.policy import Resized


@dataclass(frozen=True)
class RestoredRun:
    """Task, model with its best weights, recipe, the features' spec, and the encoder (None: it looks at no picture)."""

    task: Task
    model: nn.Module
    recipe: Recipe
    spec: EncoderSpec
    encoder: Encoder | None


def restore_task(run: Path, overrides: Sequence[str] = ()) -> tuple[Task, nn.Module, Recipe, EncoderSpec]:
    """Task, model in evaluation mode, recipe and the features' spec of a finished run, without its encoder.

    `overrides` change the recipe's `task_settings.*`, which are those of how it is asked.

    Raises:
        CheckpointError: the run is not finished or damaged.
        RecipeError: an override of something that there is not, or with a wrong value.
    """
    recipe = read_recipe(run).with_overrides(*overrides)
    read_json(run / "result.json")
    task, model, assets = restore(run, recipe)
    return task, model.eval(), recipe, EncoderSpec(**assets["encoder"])


def with_encoder(run: Path, task: Task, model: nn.Module, recipe: Recipe, spec: EncoderSpec) -> RestoredRun:
    """The run with its encoder, built and compared with the one that it was trained with.

    Raises:
        CheckpointError: the encoder of that name is another one now (other weights, another version).
        UsageError: it was trained on a ready store (`store:PATH`), which encodes nothing.
    """
    encoder = None
    if recipe.encoder.name != BLIND:
        encoder = encoder_of(recipe.encoder)
        trained = replace(
            spec, name=recipe.encoder.name, fingerprint=read_json(run / "result.json")["encoder"]["fingerprint"]
        )
        if problem := other_encoder(trained, encoder.fingerprint(), encoder.grid_channels):
            raise CheckpointError(f"{run}: {problem}")
    return RestoredRun(task, model, recipe, spec, encoder)


class PictureEncoder:
    """From pictures to the features that a run's model reads: its resize policy, its encoder, its number type."""

    def __init__(self, recipe: Recipe, encoder: Encoder | None) -> None:
        """`encoder` is None for a run that looks at no picture."""
        self.recipe, self.encoder = recipe, encoder
        self._policy = policy(recipe.encoder.resize)

    def resize(self, image: Image.Image) -> Resized | None:
        """The canvas of a picture; None where nobody looks at it."""
        if self.encoder is None:
            return None
        return self._policy.apply(image, self.encoder.preprocess, self.encoder.stride)

    @torch.no_grad()
    def grids(self, pixels: Tensor) -> GridBatch:
        """Features of canvases (B, 3, H, W) uint8, on the CPU, through the type that the store keeps.

        So the model sees what it was trained on.
        """
        assert self.encoder is not None
        device = next(iter(self.encoder.module.parameters())).device
        encoded = self.encoder.encode(normalise(pixels.to(device), self.encoder.preprocess))
        kept = getattr(torch, self.recipe.features.dtype)
        grid, pooled = encoded.grid.to(kept).float().cpu(), encoded.pooled
        shapes = torch.tensor([grid.shape[2:]]).repeat(len(grid), 1)
        pooled = None if pooled is None else pooled.to(kept).float().cpu()
        return GridBatch(grid.flatten(2).transpose(1, 2), None, shapes, pooled)


class PicturesAtHand:
    """The features of some pictures of one shape, by id."""

    def __init__(self, spec: EncoderSpec, image_ids: Sequence[str], grids: GridBatch) -> None:
        self.spec, self._grids = spec, grids
        self._rows = {image_id: row for row, image_id in enumerate(image_ids)}

    @classmethod
    def unseen(cls, image_ids: Sequence[str]) -> PicturesAtHand:
        """Pictures for a run that looks at none."""
        return cls(BlindSource.spec, image_ids, BlindSource().batch(image_ids))

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Features in the order asked; ids may repeat. Raises StoreError naming one that is not at hand."""
        try:
            rows = torch.tensor([self._rows[image_id] for image_id in image_ids])
        except KeyError as absent:
            raise StoreError(f"picture {absent} is not among those at hand") from None
        own = self._grids
        pooled = None if own.pooled is None else own.pooled[rows]
        return GridBatch(own.cells[rows], None, own.shapes[rows], pooled)
