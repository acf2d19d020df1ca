"""The optimisation budget that both trainings share, so that neither encoder is merely trained longer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Budget:
    """Steps, batch and learning rate. Both encoders see `batch * steps` pictures, crops of 64 px first."""

    close_up_steps: int = 1400
    whole_steps: int = 280
    batch: int = 128
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100

    @property
    def steps(self) -> int:
        """All steps of a training."""
        return self.close_up_steps + self.whole_steps


CYCLES = (Budget(), Budget(close_up_steps=2000, whole_steps=250, learning_rate=1.2e-3, warmup_steps=50))
"""What both encoders go through: two passes, each with a warm-up and a fall of the learning rate."""


def make_optimiser(model: nn.Module, budget: Budget) -> torch.optim.Optimizer:
    """AdamW; only matrices decay."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": budget.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=budget.learning_rate, betas=(0.9, 0.98))


def schedule(optimiser: torch.optim.Optimizer, budget: Budget, step: int) -> None:
    """Linear warm-up, then a cosine down to a hundredth of the learning rate."""
    warm = min(1.0, (step + 1) / budget.warmup_steps)
    fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / budget.steps))
    for group in optimiser.param_groups:
        group["lr"] = budget.learning_rate * warm * fall
