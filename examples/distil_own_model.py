"""Distil a frozen encoder into a model of your own, in a plain PyTorch loop.

    python examples/distil_own_model.py my.csv photos runs/distilled

my.csv has the columns picture (a file in photos), sentence and label. The model below is a stand-in for yours: all that
matters is that its modules can be named. It is trained with the teacher and saved without: model.pt has its own keys.
"""

from __future__ import annotations

import csv
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from clipvil.distillation import (
    Curriculum,
    DistillationChoice,
    Distiller,
    Lesson,
    StudentCells,
    Tap,
    TeacherChoice,
    open_teacher_on,
)
from clipvil.distillation.alignment import word_spans

WIDTH, SIDE, WORDS = 64, 64, 12


class Student(nn.Module):
    """A sentence through a GRU, a picture through three convolutions, and a classifier over both."""

    def __init__(self, words: int, labels: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, WIDTH, padding_idx=0)
        self.reader = nn.GRU(WIDTH, WIDTH, batch_first=True)
        sizes = (3, 16, 32, WIDTH)
        layers = [(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU()) for a, b in pairwise(sizes)]
        self.eye = nn.Sequential(*(part for layer in layers for part in layer), nn.AdaptiveAvgPool2d(4))
        self.join = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.ReLU())
        self.answer = nn.Linear(WIDTH, labels)

    def forward(self, sentence: Tensor, picture: Tensor) -> Tensor:
        """(B, T) and (B, 3, 64, 64) -> (B, labels)."""
        read, seen = self.reader(self.words(sentence))[0], self.eye(picture)
        out: Tensor = self.answer(self.join(torch.cat([read.mean(1), seen.mean((2, 3))], dim=1)))
        return out


TAPS = {
    "pooled": Tap("join", WIDTH),
    "text": Tap("reader", WIDTH, lambda output, batch: output[0]),
    "vision": Tap("eye", WIDTH, lambda output, batch: output.flatten(2).transpose(1, 2)),
}


def read(table: Path, photos: Path) -> tuple[Tensor, Tensor, Tensor, list[Lesson], int]:
    """Sentences (n, T), pictures (n, 3, 64, 64), labels (n,), what the teacher is told, and the number of words."""
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    labels = sorted({row["label"] for row in rows})
    known: dict[str, int] = {}
    sentences, pictures, lessons = [], [], []
    for row in rows:
        places = word_spans(row["sentence"])[:WORDS]
        numbers = [known.setdefault(row["sentence"][a:b].lower(), len(known) + 1) for a, b in places]
        sentences.append(numbers + [0] * (WORDS - len(numbers)))
        picture = Image.open(photos / row["picture"]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pictures.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255)
        # The places of the student's own tokens among the characters are how the teacher's words find them.
        lessons.append(Lesson(row["picture"], (row["sentence"],), tuple(places), labels.index(row["label"])))
    gold = torch.tensor([lesson.gold for lesson in lessons])
    return torch.tensor(sentences), torch.stack(pictures), gold, lessons, len(known) + 1


def main(table: str, photos: str, out: str, steps: int = 200, weight: float = 1.0) -> list[float]:
    """Train with the teacher; returns the loss of the task at each step."""
    torch.manual_seed(0)
    folder = Path(out)
    sentences, pictures, gold, lessons, words = read(Path(table), Path(photos))
    choice = DistillationChoice(weight=weight)
    # The teacher sees every picture and every distinct sentence once; a second run finds them in the folder.
    teacher = open_teacher_on(TeacherChoice(encoder="mini/contrastive"), photos, folder / "teacher")
    curriculum = Curriculum(lessons, [teacher], choice, cache=folder)
    model = Student(words, int(gold.max()) + 1)
    distiller = Distiller(model, TAPS, curriculum.widths(), choice)
    optimiser = torch.optim.AdamW([*model.parameters(), *distiller.parameters()], lr=1e-3)
    seen = []
    for step in range(steps):
        rows = torch.randint(len(gold), (32,))
        with distiller.reading({}):
            task = functional.cross_entropy(model(sentences[rows], pictures[rows]), gold[rows])
        cells = StudentCells(torch.tensor([[4, 4]] * len(rows)))
        loss = task + choice.weight * distiller(curriculum.batch(rows, step, cells))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(task.item())
    torch.save(model.state_dict(), folder / "model.pt")
    terms = ", ".join(f"{name} {float(value):.2f}" for name, value in distiller.seen.items())
    print(f"{len(gold)} examples, {steps} steps: task loss {seen[0]:.2f} -> {seen[-1]:.2f}; {terms}")
    return seen


if __name__ == "__main__":
    main(*sys.argv[1:4])
