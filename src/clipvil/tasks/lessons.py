"""What of a training example a teacher is shown, and how a task says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Lesson:
    """One sequence that the student reads, as a teacher is told of it.

    `parts` are texts in the order in which the student reads them (question, answer), which together make up `text`; a
    teacher reads each by itself, because its context may be short. `pieces` are the places of the student's tokens
    among the characters of `text`, (start, end) each, an empty (0, 0) for special ones: how words of the teacher find
    tokens of the student, whatever either tokenizer does.

    `choices` are the texts among which the right one is to be told by the picture (of VCR the four of the example),
    `gold` which of them is right. A task whose classes are no texts gives the number of the right class as `gold` and
    no choices. `polarity` says what agreement of text and picture means: 1 that they belong together, -1 that they do
    not, 0 that nothing can be said.
    """

    image_id: str
    parts: tuple[str, ...]
    pieces: tuple[tuple[int, int], ...]
    gold: int | None = None
    choices: tuple[str, ...] = ()
    polarity: int = 1

    @property
    def text(self) -> str:
        """All that is read, as one string that `pieces` count in."""
        return "".join(self.parts)


@runtime_checkable
class Teachable(Protocol):
    """A task whose model can be distilled into."""

    def teacher_inputs(self, records: Sequence[Any]) -> list[Lesson]:
        """Equally many lessons a record, those of a record behind each other."""
        ...


def rows_of(task: object, batch: Mapping[str, Tensor]) -> Tensor:
    """Which sequence of the student's states each lesson of a batch is about, (L,) int64.

    A task with several sequences a record says so in `teacher_rows(batch)`; for the others lesson and sequence are one.
    """
    import torch

    own = getattr(task, "teacher_rows", None)
    if own is not None:
        rows: Tensor = own(batch)
        return rows
    return torch.arange(len(batch["question"]))
