"""One update of the weights from one or more micro-batches, in one process or many."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clipvil.errors import UsageError
from clipvil.tasks.base import Task
from clipvil.tasks.losses import LossTerms
from clipvil.training.evaluation import autocast
from clipvil.training.loader import to_device
from clipvil.training.randomness import seed_everything

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Measured:
    """What an update found before the weights were changed: over all micro-batches and processes."""

    loss: float
    terms: dict[str, float] = field(default_factory=dict)


class Gradients:
    """Leaves in a model's parameters the gradients of the loss of a whole batch, however it is cut.

    Micro-batches of one process are gone through one after the other, and only with the last one do processes exchange
    gradients. A scalar loss is a mean over equally many records in each micro-batch, so the mean of means is that of
    the batch; see `LossTerms` for others.
    """

    def __init__(self, task: Task, wrapped: nn.Module, accelerator: Accelerator, mixed_precision: str) -> None:
        """`wrapped` is the `LossModule`, or what averages its gradients over processes."""
        self.task, self.wrapped, self.accelerator, self.mixed_precision = task, wrapped, accelerator, mixed_precision

    def compute(self, parts: Sequence[dict[str, Tensor]], seeds: Sequence[tuple[int | str, ...]]) -> Measured:
        """Forward and backward passes over this process's micro-batches; `seeds` are those of each.

        Raises UsageError when a task returns terms for several micro-batches without saying their weights beforehand.
        """
        weights = self._weights(parts)
        total: Tensor | None = None
        names: tuple[str, ...] = ()
        for place, (batch, seed) in enumerate(zip(parts, seeds, strict=True)):
            seed_everything(*seed)
            last = place == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                with autocast(self.accelerator.device, self.mixed_precision):
                    loss = self.wrapped(to_device(batch, self.accelerator.device))
                if isinstance(loss, LossTerms):
                    if weights is None:
                        weights = self._reduced(loss.weights, len(parts))
                    # Times the processes, because their gradients are averaged.
                    names, each = loss.names, loss.over(weights) * self.accelerator.num_processes
                    objective, seen = each.sum(), each.detach()
                else:
                    objective = loss if len(parts) == 1 else loss / len(parts)
                    seen = objective.detach().reshape(1)
                self.accelerator.backward(objective)
            total = seen.float() if total is None else total + seen.float()
        if total is None:
            raise UsageError("an update needs at least one micro-batch")
        # Every process must see the same number: one that stops alone would leave the others waiting.
        values = self.accelerator.reduce(total, reduction="mean").tolist()
        return Measured(math.fsum(values), dict(zip(names, values, strict=False)))

    def _weights(self, parts: Sequence[dict[str, Tensor]]) -> Tensor | None:
        """The weights of the loss's terms over the whole batch, where the task can tell them from the batches alone."""
        own = getattr(self.task, "loss_weights", None)
        if own is None:
            return None
        counted = torch.stack([own(batch).float() for batch in parts]).sum(dim=0).to(self.accelerator.device)
        reduced: Tensor = self.accelerator.reduce(counted, reduction="sum")
        return reduced

    def _reduced(self, weights: Tensor, parts: int) -> Tensor:
        if parts > 1:
            raise UsageError(
                f"the task {self.task.name} gives its loss in terms and does not say their weights beforehand "
                "(loss_weights), so training.micro_batch cannot cut a process's batch"
            )
        reduced: Tensor = self.accelerator.reduce(weights.detach().float(), reduction="sum")
        return reduced
