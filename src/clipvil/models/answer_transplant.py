"""An answer head of other answers, taken over row by row by what the answers say.

CLIP-ViL_p's pre-training answers 9,500 answers; VQA has 3,129 of its own, of which 3,124 are among them. The hidden
layer and its normalisation are copied whole, the row of each answer from the row of the same answer, and answers that
were not there start at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipvil.errors import DataError
from clipvil.text.answer_table import normalised


@dataclass(frozen=True)
class Transplant:
    """Where each answer of the new head comes from."""

    rows: tuple[int | None, ...]
    """Row of the old head, None where there is none."""
    answers: tuple[str, ...]

    @property
    def found(self) -> int:
        """How many answers were there."""
        return sum(row is not None for row in self.rows)

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that were not, in order."""
        return tuple(answer for answer, row in zip(self.answers, self.rows, strict=True) if row is None)

    def __str__(self) -> str:
        return f"{self.found} of {len(self.rows)} answers found in the old head, {len(self.missing)} start at zero"


def plan_transplant(old: Sequence[str], new: Sequence[str], *, write: Callable[[str], str] = normalised) -> Transplant:
    """Find each of the `new` answers among the `old` ones: as it stands, or else as `write` puts it.

    A table that is built from a corpus keeps answers as people gave them ("grey", "two"); the published one does not.
    Raises DataError when an old answer stands twice: its row would be a matter of chance.
    """
    table = {answer: row for row, answer in enumerate(old)}
    if len(table) != len(old):
        double = next(answer for row, answer in enumerate(old) if table[answer] != row)
        raise DataError(f"the answer {double!r} stands twice in the answer table")
    return Transplant(tuple(table.get(answer, table.get(write(answer))) for answer in new), tuple(new))


def transplant_head(head: dict[str, Tensor], plan: Transplant) -> dict[str, Tensor]:
    """The new head's tensors (`hidden.*`, `norm.*`, `out.weight` (N, size), `out.bias` (N,)) from the old one's.

    Raises DataError when the plan asks for rows that the old head has not.
    """
    rows = [row for row in plan.rows if row is not None]
    if rows and max(rows) >= len(head["out.bias"]):
        raise DataError(f"the answer table has {max(rows) + 1} rows or more, the head {len(head['out.bias'])}")
    index = torch.tensor([0 if row is None else row for row in plan.rows])
    known = torch.tensor([row is not None for row in plan.rows])
    new = {name: tensor.clone() for name, tensor in head.items() if not name.startswith("out.")}
    for leaf in ("weight", "bias"):
        taken = head[f"out.{leaf}"][index]
        new[f"out.{leaf}"] = torch.where(known[:, None] if taken.ndim == 2 else known, taken, torch.zeros_like(taken))
    return new
