"""Synthetic features for the tests of tasks: a cell a picture that spells out a colour, and grids of any shape."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clipvil.encoders.base import EncoderSpec
from clipvil.features.base import GridBatch
from clipvil.records import Question

COLORS = ("red", "green", "blue")
CHANNELS = 8


class ColourSource:
    """Features of pictures named "<number>/<color>": a grid of noise with one cell that shows the colour."""

    spec = EncoderSpec("synthetic", "0", CHANNELS, CHANNELS)

    def __init__(self, *, ragged: bool = False) -> None:
        self.ragged = ragged

    def __contains__(self, image_id: object) -> bool:
        return True

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Grids of 2x2 cells, or of 2x2 and 2x3 cells with a mask when `ragged`."""
        shapes = torch.tensor([[2, 3 if self.ragged and i.startswith(("1", "3")) else 2] for i in image_ids])
        counts = shapes.prod(1)
        cells = torch.zeros(len(image_ids), int(counts.max()), CHANNELS)
        for row, image_id in enumerate(image_ids):
            number, color = image_id.split("/")
            own = torch.Generator().manual_seed(int(number))
            cells[row, : counts[row]] = 0.1 * torch.rand(int(counts[row]), CHANNELS, generator=own)
            cells[row, int(number) % 4, COLORS.index(color)] = 2.0
        mask = torch.arange(cells.shape[1]) < counts[:, None]
        return GridBatch(cells, None if bool(mask.all()) else mask, shapes, cells.mean(1))


def colour_questions(n: int, *, start: int = 0, votes: int = 10) -> list[Question]:
    """Questions whose answers are in the features alone, two a picture."""
    records = []
    for i in range(start, start + n):
        color = COLORS[(i // 2 * 7 + i // 2 // 3) % 3]
        asked = COLORS[i % 3]
        what = i % 2 == 0
        answer = color if what else ("yes" if color == asked else "no")
        records.append(
            Question(
                question_id=str(1000 + i),
                image_id=f"{i // 2}/{color}",
                question="What color is it?" if what else f"Is it {asked}?",
                answers=(answer,) * votes,
                answer_type="other" if what else "yes/no",
                question_type="what" if what else "is it",
            )
        )
    return records
