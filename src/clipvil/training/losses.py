"""What one calls so that several processes average gradients: a task's loss as a module."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from clipvil.tasks.base import Task
from clipvil.tasks.losses import LossTerms


class LossModule(nn.Module):
    """The loss of a task as the forward pass of a module.

    So the wrapper for several processes is around everything that a task does with its model, whichever parts of it the
    task calls.
    """

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor | LossTerms:
        """What `task.loss` returns: a scalar that is a mean over the records, or terms."""
        return self.task.loss(self.model, batch)
