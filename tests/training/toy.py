"""A small task that can really be learnt, with its features in memory: what the training tests train."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipvil.datasets.base import Dataset
from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError
from clipvil.features.base import GridBatch
from clipvil.records import Question
from clipvil.tasks.base import Prediction, Score, Scores
from clipvil.tasks.registry import list_tasks, register_task
from clipvil.training.recipe import Recipe

COLOURS = ("red", "green", "blue")
SIDES = ("left", "right")


class ToyFeatures:
    """A picture is two cells, left and right, each the noisy code of a colour."""

    def __init__(self, pictures: int, seed: int = 0, absent: Sequence[str] = ()) -> None:
        random = np.random.default_rng(seed)
        self.colours = random.integers(len(COLOURS), size=(pictures, 2))
        codes = np.eye(4, dtype=np.float32)[self.colours]
        self.cells = (codes + 0.3 * random.standard_normal(codes.shape)).astype(np.float32)
        self.absent = frozenset(absent)
        self.spec = EncoderSpec(name="toy", fingerprint="0" * 16, grid_channels=4)

    def __contains__(self, image_id: object) -> bool:
        return str(image_id) not in self.absent and 0 <= int(str(image_id)) < len(self.cells)

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        cells = torch.from_numpy(self.cells[[int(i) for i in image_ids]])
        return GridBatch(cells=cells, mask=None, shapes=torch.tensor([[1, 2]] * len(image_ids)))

    def questions(self, pictures: range) -> tuple[Question, ...]:
        return tuple(
            Question(f"{picture}-{side}", str(picture), side, (COLOURS[self.colours[picture, k]],))
            for picture in pictures
            for k, side in enumerate(SIDES)
        )


class ToyTask:
    """Which colour is on the side that the question names?"""

    name = "toy"
    metric = "accuracy"
    record_type: type = Question

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.answers: list[str] = []
        # At which call the loss becomes NaN: how the tests stop a run at a step of their choice.
        self.explode_at, self.calls = (settings or {}).get("explode_at"), 0
        self.noise = float((settings or {}).get("noise", 0.01))

    def prepare(self, train: Sequence[Question]) -> None:
        self.answers = sorted({record.answers[0] for record in train})

    def assets(self) -> dict[str, Any]:
        return {"answers": self.answers}

    def restore(self, assets: Mapping[str, Any]) -> None:
        self.answers = list(assets["answers"])

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        width = int(model.get("width", 32))
        return nn.Sequential(
            nn.Linear(2 * encoder.grid_channels + 2, width),
            nn.ReLU(),
            nn.Dropout(float(model.get("dropout", 0.2))),
            nn.Linear(width, len(self.answers)),
        )

    def collate(self, records: Sequence[Question], features: Any) -> dict[str, Tensor]:
        cells = features.batch([record.image_id for record in records]).cells.flatten(1)
        sides = torch.tensor([[float(record.question == side) for side in SIDES] for record in records])
        # Random on purpose: a task may mask words here, and resuming must repeat it.
        noise = self.noise * (torch.randn(cells.shape) + float(np.random.standard_normal()))  # noqa: NPY002
        known = {answer: i for i, answer in enumerate(self.answers)}
        labels = torch.tensor([known.get(record.answers[0], 0) if record.answers else 0 for record in records])
        return {"x": torch.cat([cells + noise, sides], 1), "y": labels}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        self.calls += 1
        loss = nn.functional.cross_entropy(model(batch["x"]), batch["y"])
        return loss * float("nan") if self.calls == self.explode_at else loss

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Question]) -> list[Prediction]:
        shares = model(batch["x"]).softmax(1)
        out = []
        for record, share in zip(records, shares, strict=True):
            order = share.argsort(descending=True).tolist()
            top = tuple((self.answers[i], float(share[i])) for i in order)
            out.append(Prediction(record.question_id, record.image_id, top[0][0], top[0][1], top))
        return out

    def score(self, predictions: Sequence[Prediction], records: Sequence[Question]) -> Scores:
        right = {record.question_id: record.answers[0] for record in records}
        if sorted(right) != sorted(prediction.record_id for prediction in predictions):
            raise DataError("predictions and records do not name the same questions")
        each = {p.record_id: 100.0 * (p.output == right[p.record_id]) for p in predictions}
        mean = float(np.mean(list(each.values())))
        overall = Score(mean, len(each), mean, mean)
        return Scores("accuracy", "plain", overall, {}, each, {r.question_id: r.image_id for r in records})

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        path.write_text(json.dumps([{"question_id": p.record_id, "answer": p.output} for p in predictions]))


def toy_recipe(**changes: Any) -> Recipe:
    """A recipe that learns the toy task in 40 steps; `changes` are overrides with `__` for the dot."""
    values = {
        "task": "toy",
        "optimiser": {"name": "adamax", "lr": 0.02},
        "schedule": {"name": "multistep", "steps": 40, "warmup_steps": 4, "warmup_from": 0.2, "milestones": [30]},
        "training": {"batch_size": 24, "evaluate_every": 10, "log_every": 4, "grad_clip": 0.25},
    }
    recipe = Recipe.from_values(values)
    return recipe.with_overrides(*(f"{key.replace('__', '.')}={value}" for key, value in changes.items()))


def toy_world(pictures: int = 200, absent: Sequence[str] = ()) -> tuple[ToyFeatures, dict[str, Dataset]]:
    """Features and splits: three quarters train, an eighth val, an eighth test."""
    features = ToyFeatures(pictures, absent=absent)
    edges = [0, pictures * 6 // 8, pictures * 7 // 8, pictures]
    splits = {
        name: Dataset("toy", name, features.questions(range(*edges[i : i + 2])), {})
        for i, name in enumerate(("train", "val", "test"))
    }
    return features, splits


if "toy" not in list_tasks():
    register_task("toy", ToyTask)
