"""Optimisers by name, groups of parameters, and learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clipvil.training.bert_adam import BertAdamW
from clipvil.training.recipe import OptimiserChoice, Recipe, ScheduleChoice, ScheduleShape

TRUNK = "trunk."
"""How the names of an encoder's parameters begin in a model that is trained with its encoder."""
BERT = ".bert."
"""What the names hold of the parameters of a BERT that reads instructions and is trained along."""
VECTORS = "vectors"
"""In `no_decay`: every parameter of at most one dimension."""


@dataclass(frozen=True)
class Part:
    """An optimiser over some of the parameters, with its own rate and schedule. `name`: `model` or `trunk`."""

    name: str
    optimiser: torch.optim.Optimizer
    lr: float
    schedule: ScheduleChoice

    def rate(self, step: int) -> float:
        """The learning rate of the update after `step` updates."""
        return self.lr * learning_rate_factor(self.schedule, step)


class Optimisers:
    """All optimisers of a run, which step together."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self.parts = tuple(parts)

    def __iter__(self) -> Iterator[torch.optim.Optimizer]:
        return (part.optimiser for part in self.parts)

    def set_rates(self, step: int) -> dict[str, float]:
        """Give each its learning rate for the update after `step` updates; returns them by part."""
        rates = {part.name: part.rate(step) for part in self.parts}
        for part in self.parts:
            set_learning_rate(part.optimiser, rates[part.name])
        return rates

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimiser in self:
            optimiser.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One update of every parameter."""
        for optimiser in self:
            optimiser.step()


def create_optimisers(recipe: Recipe, model: nn.Module) -> Optimisers:
    """The optimisers of a recipe over the parameters of a model that want gradients.

    Parameters whose name begins with `trunk.` belong to the encoder that is trained along, those of `.bert.` to a BERT
    that is; they have the optimiser and schedule of the recipe's `trunk` section where it names any, all others the
    recipe's own.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    trunk = {name: parameter for name, parameter in named.items() if name.startswith(TRUNK) or BERT in name}
    rest = {name: parameter for name, parameter in named.items() if name not in trunk}
    shape = recipe.trunk.schedule
    schedule = _over(shape, recipe.schedule.steps) if shape else recipe.schedule
    chosen = (
        ("model", rest, recipe.optimiser, recipe.schedule),
        ("trunk", trunk, recipe.trunk.optimiser or recipe.optimiser, schedule),
    )
    return Optimisers(
        Part(name, create_optimiser(choice, parameters), choice.lr, schedule)
        for name, parameters, choice, schedule in chosen
        if parameters
    )


def _over(shape: ScheduleShape, steps: int) -> ScheduleChoice:
    return ScheduleChoice(**shape.model_dump(), steps=steps)


def create_optimiser(choice: OptimiserChoice, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that a recipe names, over all named parameters that want gradients.

    One group, or two where `no_decay` spares some of them.
    """
    wanted = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    spared = [p for name, p in wanted.items() if is_spared(name, p, choice.no_decay)]
    groups = [{"params": [p for name, p in wanted.items() if not is_spared(name, p, choice.no_decay)]}]
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})  # type: ignore[dict-item]
    groups = [group for group in groups if group["params"]]
    if choice.name == "sgd":
        return torch.optim.SGD(groups, lr=choice.lr, momentum=choice.momentum, weight_decay=choice.weight_decay)
    if choice.name == "rmsprop":
        return torch.optim.RMSprop(
            groups, lr=choice.lr, eps=choice.eps, momentum=choice.momentum, weight_decay=choice.weight_decay
        )
    kinds: dict[str, Any] = {
        "adamax": torch.optim.Adamax, "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "bert_adamw": BertAdamW
    }  # fmt: skip
    return kinds[choice.name](
        groups, lr=choice.lr, betas=choice.betas, eps=choice.eps, weight_decay=choice.weight_decay
    )


def is_spared(name: str, parameter: nn.Parameter, rules: Iterable[str]) -> bool:
    """Whether weight decay leaves a parameter alone, by the rules of `OptimiserChoice.no_decay`."""
    return any(parameter.ndim <= 1 if rule == VECTORS else rule in name for rule in rules)


def learning_rate_factor(schedule: ScheduleChoice, step: int) -> float:
    """What the learning rate is multiplied by for the update after `step` updates were done (0 for the first).

    Warm-up is linear from `warmup_from` at step 0 to 1 at `warmup_steps` (or at `warmup_ratio` of all steps, where it
    need not be whole). After it:

    - multistep: `gamma` to the power of the milestones reached (the published Pythia schedule: warm-up over 1000
      steps from 0.2, then x0.1 at 15k, 18k, 20k and 21k);
    - cosine: half a cosine from 1 at the end of the warm-up to `final` at `steps`;
    - linear: a straight line between the same (BERT's schedule, and CLIP-ViL_p's for everything but CLIP);
    - constant: 1.

    noam is a schedule by itself (Vaswani et al. 2017): d_model^-0.5 * min(n^-0.5, n * warmup_steps^-1.5) for the n-th
    update, n from 1 on. The learning rate that it is multiplied by is the published "factor", 1.
    """
    if schedule.name == "noam":
        update = step + 1
        return float(schedule.d_model**-0.5 * min(update**-0.5, update * schedule.warmup_steps**-1.5))
    ratio = schedule.warmup_ratio
    warmup = schedule.warmup_steps if ratio is None else ratio * schedule.steps
    if step < warmup:
        share = step / warmup
        return schedule.warmup_from * (1 - share) + share
    if schedule.name == "multistep":
        return schedule.gamma ** bisect.bisect_right(schedule.milestones, step)
    if schedule.name == "constant":
        return 1.0
    share = min((step - warmup) / max(schedule.steps - warmup, 1), 1.0)
    if schedule.name == "linear":
        return schedule.final + (1 - schedule.final) * (1 - share)
    return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * share))


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Give every group of an optimiser the same learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = value
