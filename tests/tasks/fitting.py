"""A short training on one batch, for tests that a task can be learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def check_it_fits(task: Any, model: nn.Module, batch: Mapping[str, Tensor], steps: int, lr: float) -> None:
    """Adam on one batch brings its loss below a third; the model is left in evaluation mode."""
    optimiser = torch.optim.Adam(model.parameters(), lr)
    first = task.loss(model, batch).item()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimiser.step()
    assert loss.item() < first / 3
    model.eval()
