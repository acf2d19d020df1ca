"""What the VQA task asks of a model's output, whichever model it is.

Every model of the task returns an object with `logits` (B, answers): what the answer is read from. A model that is
trained on more than that (several classifier heads) also has `supervised`: a tuple of tensors (B, answers), each of
which the loss counts in full. The task knows no model by name.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class AnswerOutput(Protocol):
    """The least that a VQA model returns."""

    @property
    def logits(self) -> Tensor:
        """(B, answers): what the answer is read from."""
        ...


def supervised(output: AnswerOutput) -> tuple[Tensor, ...]:
    """The logits (B, answers) that the loss is summed over: those the output names, or else its answer alone."""
    named: tuple[Tensor, ...] = getattr(output, "supervised", ())
    return named or (output.logits,)
