"""A small world to distil in: the miniature world's text tower, pictures of noise, and CLIP-ViL_p as the student."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.datasets.base import Dataset
from clipvil.distillation import Curriculum, DistillationChoice, Distiller, StudentCells, Teacher, TeacherChoice
from clipvil.distillation.taps import taps_of
from clipvil.distillation.teachers import joint_of
from clipvil.distillation.text_teachers import TowerTeacher
from clipvil.encoders.base import EncoderSpec
from clipvil.encoders.registry import create_encoder
from clipvil.features.base import GridBatch
from clipvil.metrics.entailment import LABELS
from clipvil.records import Entailment
from clipvil.tasks.visual_entailment import VisualEntailment

HYPOTHESES = (
    "a red circle is left of a small blue square",
    "there is a green triangle",
    "two squares don't touch the yellow circle",
    "the picture shows three large circles above a striped square",
    "nothing is red",
)


class Pictures:
    """Grids of noise with pooled vectors, 3 x 4 cells of the miniature encoder's depth."""

    def __init__(self, count: int, seed: int = 0, shape: tuple[int, int] = (3, 4)) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.shape = shape
        self.cells = torch.rand(count, shape[0] * shape[1], 512, generator=generator)
        self.pooled_vectors = torch.randn(count, 128, generator=generator)
        self.spec = EncoderSpec("mini/contrastive", "f" * 16, 512, 128)

    def __contains__(self, image_id: object) -> bool:
        return 0 <= int(str(image_id)) < len(self.cells)

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        rows = [int(image) for image in image_ids]
        shapes = torch.tensor([self.shape] * len(rows))
        return GridBatch(self.cells[rows], None, shapes, self.pooled_vectors[rows])


def records(count: int = 24, first: int = 0) -> list[Entailment]:
    """Pairs about `count` pictures, all of the hypotheses in turn."""
    return [
        Entailment(f"p{number}", str(number), HYPOTHESES[number % len(HYPOTHESES)], LABELS[number % 3])
        for number in range(first, first + count)
    ]


def splits(train: int = 24) -> dict[str, Dataset]:
    """Train and validation on different pictures."""
    return {
        "train": Dataset("noise", "train", tuple(records(train)), {}),
        "val": Dataset("noise", "val", tuple(records(6, train)), {}),
    }


def task_of(train: Sequence[Entailment], **settings: Any) -> VisualEntailment:
    task = VisualEntailment({"tokenizer": "wordpiece", **settings})
    task.prepare(train)
    return task


@cache
def _encoder() -> Any:
    return create_encoder("mini/contrastive")


@cache
def reader() -> TowerTeacher:
    """The text tower as a teacher."""
    return TowerTeacher(_encoder().text())


def teacher(pictures: Pictures | None, text: bool = True) -> Teacher:
    choice = TeacherChoice(text=text)
    return Teacher(choice, pictures, reader() if text else None, joint_of(_encoder()))


def choice_of(**values: Any) -> DistillationChoice:
    return DistillationChoice.model_validate({"weight": 1.0, **values})


class Bench:
    """A student before its first step, with what the teacher says of its training records."""

    def __init__(self, train: list[Entailment] | None = None, *, seed: int = 0, **values: Any) -> None:
        self.train = train or records()
        self.pictures = Pictures(max(int(record.image_id) for record in self.train) + 1)
        self.task = task_of(self.train)
        self.choice = choice_of(**values)
        self.curriculum = Curriculum(
            self.task.teacher_inputs(self.train), [teacher(self.pictures)], self.choice, dtype="float32"
        )
        torch.manual_seed(seed)
        self.model: nn.Module = self.task.build({"name": "clip_vil_p", "preset": "mini"}, self.pictures.spec)
        torch.manual_seed(seed + 1)
        self.distiller = Distiller(self.model, taps_of(self.model), self.curriculum.widths(), self.choice)

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        return self.task.collate([self.train[place] for place in places], self.pictures)

    def told(self, places: Sequence[int], step: int = 0) -> dict[str, Tensor]:
        cells = StudentCells(torch.tensor([self.pictures.shape] * len(places)))
        return self.curriculum.batch(torch.tensor(list(places)), step, cells)

    def losses(self, places: Sequence[int], told: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The task's loss and that of distillation."""
        batch = self.batch(places)
        with self.distiller.reading(batch):
            loss = self.task.loss(self.model, batch)
        return loss, self.distiller(self.told(places) if told is None else told)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all gradients by name."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
