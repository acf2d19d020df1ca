"""Losses that are no plain mean over records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class LossTerms:
    """A loss of T terms, each a sum over what it counts: masked words, matched pairs, questions with an answer.

    sums (T,) float; weights (T,) float, how much each sum is over; `names` of the terms for the log. The loss of an
    update is the sum over terms of all sums divided by all weights, over every micro-batch of every process. So a
    batch means the same however it was cut: an average of means would give a masked word in a micro-batch with few of
    them more say than one in a micro-batch with many. A term that counts nothing in the whole batch is 0.

    A task that returns these may say the weights of a batch beforehand, in `loss_weights(batch) -> (T,)`, from the
    batch alone. It must where an update has several micro-batches: the first backward pass needs the weights of all.
    """

    sums: Tensor
    weights: Tensor
    names: tuple[str, ...]

    def over(self, weights: Tensor) -> Tensor:
        """The terms (T,), with the weights of the whole update."""
        return self.sums / weights.clamp(min=1e-12)

    def value(self) -> Tensor:
        """The loss of this batch alone."""
        return self.over(self.weights).sum()
