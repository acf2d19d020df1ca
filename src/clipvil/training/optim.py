"""Optimisers by name, and learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable

import torch
from torch import nn

from clipvil.training.recipe import OptimiserChoice, ScheduleChoice


def create_optimiser(choice: OptimiserChoice, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that a recipe names, over all parameters that want gradients, in one group."""
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    if choice.name == "sgd":
        return torch.optim.SGD(wanted, lr=choice.lr, momentum=choice.momentum, weight_decay=choice.weight_decay)
    if choice.name == "rmsprop":
        return torch.optim.RMSprop(
            wanted, lr=choice.lr, eps=choice.eps, momentum=choice.momentum, weight_decay=choice.weight_decay
        )
    kinds = {"adamax": torch.optim.Adamax, "adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    return kinds[choice.name](
        wanted, lr=choice.lr, betas=choice.betas, eps=choice.eps, weight_decay=choice.weight_decay
    )


def learning_rate_factor(schedule: ScheduleChoice, step: int) -> float:
    """What the learning rate is multiplied by for the update after `step` updates were done (0 for the first).

    Warm-up is linear from `warmup_from` at step 0 to 1 at `warmup_steps`. After it:

    - multistep: `gamma` to the power of the milestones reached (the published Pythia schedule: warm-up over 1000
      steps from 0.2, then x0.1 at 15k, 18k, 20k and 21k);
    - cosine: half a cosine from 1 at the end of the warm-up to `final` at `steps`;
    - constant: 1.

    noam is a schedule by itself (Vaswani et al. 2017): d_model^-0.5 * min(n^-0.5, n * warmup_steps^-1.5) for the n-th
    update, n from 1 on. The learning rate that it is multiplied by is the published "factor", 1.
    """
    if schedule.name == "noam":
        update = step + 1
        return float(schedule.d_model**-0.5 * min(update**-0.5, update * schedule.warmup_steps**-1.5))
    if step < schedule.warmup_steps:
        share = step / schedule.warmup_steps
        return schedule.warmup_from * (1 - share) + share
    if schedule.name == "multistep":
        return schedule.gamma ** bisect.bisect_right(schedule.milestones, step)
    if schedule.name == "cosine":
        length = max(schedule.steps - schedule.warmup_steps, 1)
        share = min((step - schedule.warmup_steps) / length, 1.0)
        return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * share))
    return 1.0


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Give every group of an optimiser the same learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = value
