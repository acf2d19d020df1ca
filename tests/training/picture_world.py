"""A small task that is learnt from pictures, encoder and all: what the tests of training from pictures train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from clipvil.datasets.base import Dataset
from clipvil.encoders.base import EncoderSpec
from clipvil.records import Question
from clipvil.tasks.losses import LossTerms
from clipvil.tasks.registry import list_tasks, register_task
from clipvil.training.recipe import Recipe
from tests.training.toy import COLOURS, SIDES, ToyTask

SIZES = ((64, 96), (96, 64), (64, 64), (64, 128))
"""Height and width of the pictures, in turn."""
_RGB = {"red": (230, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


def write_pictures(folder: Path, count: int = 40, sizes: Sequence[tuple[int, int]] = SIZES) -> dict[str, Dataset]:
    """Pictures whose halves have colours, and splits of one or two questions a picture about them."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    records, paths = [], {}
    for number in range(count):
        height, width = sizes[number % len(sizes)]
        pixels = random.integers(0, 25, size=(height, width, 3), dtype=np.uint8)
        colours = [COLOURS[i] for i in random.integers(len(COLOURS), size=2)]
        pixels[:, : width // 2] += np.array(_RGB[colours[0]], dtype=np.uint8)
        pixels[:, width // 2 :] += np.array(_RGB[colours[1]], dtype=np.uint8)
        path = folder / f"{number}.png"
        if not path.exists():  # processes of one launch share the folder
            Image.fromarray(pixels).save(path)
        paths[str(number)] = path
        for side, colour in list(zip(SIDES, colours, strict=True))[: 1 + number % 2]:
            records.append(Question(f"{number}-{side}", str(number), side, (colour,)))
    edges = {"train": range(count * 7 // 10), "val": range(count * 7 // 10, count)}
    splits = {}
    for name, numbers in edges.items():
        chosen = tuple(record for record in records if int(record.image_id) in numbers)
        splits[name] = Dataset("pictures", name, chosen, {r.image_id: paths[r.image_id] for r in chosen})
    return splits


class _Head(nn.Module):
    def __init__(self, channels: int, answers: int, dropout: float) -> None:
        super().__init__()
        self.cell, self.side = nn.Linear(channels, 16), nn.Embedding(len(SIDES), 16)
        self.out, self.dropout = nn.Linear(16, answers), nn.Dropout(dropout)

    def forward(self, cells: Tensor, mask: Tensor | None, side: Tensor) -> Tensor:
        seen = torch.einsum("bnd,bd->bn", self.cell(cells), self.side(side)) / 4
        share = seen if mask is None else seen.masked_fill(~mask, float("-inf"))
        summed = (share.softmax(dim=1)[:, :, None] * self.cell(cells)).sum(dim=1)
        return self.out(self.dropout(summed + self.side(side)))


class PictureToy(ToyTask):
    """Which colour is on that side? `terms`: the loss is a sum over all questions and one over those about the left."""

    name = "picture-toy"

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings)
        self.terms = bool((settings or {}).get("terms", False))

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        return _Head(encoder.grid_channels, len(self.answers), float(model.get("dropout", 0.1)))

    def collate(self, records: Sequence[Question], features: Any) -> dict[str, Tensor]:
        grids = features.batch([record.image_id for record in records])
        batch = {
            "cells": grids.cells,
            "shapes": grids.shapes,
            "side": torch.tensor([SIDES.index(record.question) for record in records]),
            "y": torch.tensor([self.answers.index(record.answers[0]) for record in records]),
        }
        return batch if grids.mask is None else batch | {"mask": grids.mask}

    def loss_weights(self, batch: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([torch.ones_like(batch["side"]), batch["side"] == 0]).float().sum(dim=1)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor | LossTerms:
        self.calls += 1
        logits = model(batch["cells"], batch.get("mask"), batch["side"])
        each = nn.functional.cross_entropy(logits, batch["y"], reduction="none")
        if self.calls == self.explode_at:
            each = each * float("nan")
        if not self.terms:
            return each.mean()
        sums = torch.stack([each.sum(), (each * (batch["side"] == 0)).sum()])
        return LossTerms(sums, self.loss_weights(batch).to(sums), ("all", "left"))

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Question]) -> Any:
        plain = _Plain(model(batch["cells"], batch.get("mask"), batch["side"]))
        return super().predict(plain, {"x": batch["side"]}, records)


class _Plain(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits


def picture_recipe(**changes: Any) -> Recipe:
    """Twenty updates from pictures: AdamW for the head, SGD for the encoder, three micro-batches of four an update."""
    values = {
        "task": "picture-toy",
        "encoder": {"name": "mini/contrastive", "resize": "native:short=32,long=64"},
        "features": {"source": "pictures", "workers": 0},
        "optimiser": {"name": "adamw", "lr": 0.003, "eps": 1e-6, "weight_decay": 0.01, "no_decay": ["vectors"]},
        "trunk": {"optimiser": {"name": "sgd", "lr": 0.01, "weight_decay": 4e-4}, "schedule": {"name": "constant"}},
        "schedule": {"name": "constant", "steps": 20},
        "training": {"batch_size": 12, "micro_batch": 3, "evaluate_every": 10, "log_every": 1, "grad_clip": 1.0},
        "pictures": {"sentences": 2},
    }
    recipe = Recipe.from_values(values)
    return recipe.with_overrides(*(f"{key.replace('__', '.')}={value}" for key, value in changes.items()))


if "picture-toy" not in list_tasks():
    register_task("picture-toy", PictureToy)
