"""Ask a trained run about a picture that it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from clipvil.encoders.base import Encoder, EncoderSpec
from clipvil.errors import CheckpointError, ImageError, StoreError, UsageError
from clipvil.features.base import FeatureSource, GridBatch
from clipvil.images.decode import decode
from clipvil.images.normalise import normalise
from clipvil.images.resize import policy
from clipvil.records import Question
from clipvil.tasks.base import Task
from clipvil.training.evaluation import evaluating
from clipvil.training.inputs import BLIND, encoder_of, other_encoder
from clipvil.training.loader import to_device
from clipvil.training.recipe import Recipe
from clipvil.training.run import restore
from clipvil.training.run_files import read_json, read_recipe

if TYPE_CHECKING:
    from PIL.Image import Image

_ONE = "picture"


class Predictor:
    """A trained model with its encoder. Build it with `load`."""

    def __init__(
        self, task: Task, model: nn.Module, recipe: Recipe, spec: EncoderSpec, encoder: Encoder | None
    ) -> None:
        """`encoder` is None for a question-only run, which looks at no picture."""
        self.task, self.model, self.recipe, self.spec, self.encoder = task, model, recipe, spec, encoder
        self._policy = policy(recipe.encoder.resize)

    def answer(self, picture: str | Path | Image | np.ndarray, question: str, top: int = 5) -> list[tuple[str, float]]:
        """The `top` best answers with their confidence (0..1), best first; fewer where the task keeps fewer.

        `picture` is a path, a PIL image, or a uint8 array (H, W, 3) in RGB or (H, W) in grey.

        Raises:
            ImageError: the picture cannot be used.
            UsageError: an array of another type or shape, or a question without words.
        """
        if not question.strip():
            raise UsageError("the question is empty")
        record = Question("0", _ONE, question)
        source = self._features(picture)
        device = next(iter(self.model.parameters())).device
        with evaluating(self.model):
            batch = to_device(self.task.collate([record], source), device)
            prediction = self.task.predict(self.model, batch, [record])[0]
        answers = prediction.top or ((prediction.output, prediction.confidence),)
        return list(answers[:top])

    def _features(self, picture: str | Path | Image | np.ndarray) -> FeatureSource:
        if self.encoder is None:
            from clipvil.features.blind import BlindSource

            return BlindSource()
        image = _open(picture)
        resized = self._policy.apply(image, self.encoder.preprocess, self.encoder.stride)
        with torch.no_grad():
            encoded = self.encoder.encode(normalise(resized.pixels[None], self.encoder.preprocess))
        # Through the type that the store keeps, so that the model sees what it was trained on.
        kept = getattr(torch, self.recipe.features.dtype)
        grid, pooled = encoded.grid.to(kept).float(), encoded.pooled
        shape = torch.tensor([grid.shape[2:]])
        pooled = None if pooled is None else pooled.to(kept).float()
        return _OnePicture(self.spec, GridBatch(grid.flatten(2).transpose(1, 2), None, shape, pooled))


class _OnePicture:
    """The features of the picture at hand, under one fixed id."""

    def __init__(self, spec: EncoderSpec, grids: GridBatch) -> None:
        self.spec, self._grids = spec, grids

    def __contains__(self, image_id: object) -> bool:
        return image_id == _ONE

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Its grid, once."""
        if list(image_ids) != [_ONE]:
            raise StoreError(f"only the picture at hand can be asked for, not {list(image_ids)}")
        return self._grids


def load(run: str | Path) -> Predictor:
    """A finished run, ready to answer.

    Raises:
        CheckpointError: the run is not finished or damaged, or the encoder of that name is not the one it was trained
            with (other weights, another version).
        UsageError: the run's task does not answer questions.
    """
    run = Path(run)
    recipe = read_recipe(run)
    result = read_json(run / "result.json")
    task, model, assets = restore(run, recipe)
    if task.record_type is not Question:
        raise UsageError(f"{run}: the task {recipe.task} does not answer questions about pictures")
    spec = EncoderSpec(**assets["encoder"])
    encoder = None
    if recipe.encoder.name != BLIND:
        encoder = encoder_of(recipe.encoder)
        trained = replace(spec, name=recipe.encoder.name, fingerprint=result["encoder"]["fingerprint"])
        if problem := other_encoder(trained, encoder.fingerprint(), encoder.grid_channels):
            raise CheckpointError(f"{run}: {problem}")
    return Predictor(task, model.eval(), recipe, spec, encoder)


def _open(picture: Any) -> Image:
    from PIL import Image as images

    if isinstance(picture, images.Image):
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
            raise UsageError(
                f"a picture as an array must be uint8 of shape (H, W, 3) or (H, W), not {picture.dtype} {picture.shape}"
            )
        return images.fromarray(picture)
    path = Path(picture)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError("missing", f"{path}: no such file") from None
    except OSError as error:
        raise ImageError("unreadable", f"{path}: {error.strerror or error}") from None
    # The file's own colour mode, as in extraction: the published policies differ in when they convert.
    return decode(data, where=str(path), convert=False)
