"""The optimisers and learning rates of CLIP-ViL_p: AdamW of transformers 3.3.1 for text, plain SGD for the encoder.

Facts: the released code trains everything but the encoder with that AdamW, whose two differences from torch's show in
the weights, and the encoder with SGD without momentum; one gradient norm over both is clipped at 1. Rates are pure
functions of the update and of the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn


class BertAdamW(torch.optim.Optimizer):
    """AdamW as transformers 3.3.1 has it.

    Against torch's AdamW: `eps` is added to the root of the second moment *before* the bias correction, so it counts
    sqrt(1 - beta2^t) times less in torch's terms, and the decay `lr * weight_decay * p` is taken off after the Adam
    move, of the moved weight. Both corrections of the moments are always on.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        """Raises ValueError for a negative rate, eps or decay, or betas outside 0..1."""
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lr, eps and weight_decay must not be negative, betas in 0..1: {lr}, {eps}, {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._move(parameters, group)
        return loss

    def _move(self, parameters: Sequence[Tensor], group: dict[str, Any]) -> None:
        """All tensors of a group at once, by the number of updates they have had."""
        first, second = group["betas"]
        by_count: dict[int, list[Tensor]] = {}
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                # A tensor on the CPU, as in torch's own optimisers: checkpoints hold tensors alone.
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
            by_count.setdefault(int(state["step"]), []).append(parameter)
        for count, moved in by_count.items():
            gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
            means = [self.state[parameter]["exp_avg"] for parameter in moved]
            squares = [self.state[parameter]["exp_avg_sq"] for parameter in moved]
            torch._foreach_mul_(means, first)
            torch._foreach_add_(means, gradients, alpha=1 - first)
            torch._foreach_mul_(squares, second)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - second)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, group["eps"])
            size = group["lr"] * (1 - second**count) ** 0.5 / (1 - first**count)
            torch._foreach_addcdiv_(moved, means, roots, value=-size)
            if group["weight_decay"]:
                torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])


def linear_warmup_decay(update: int, *, total: int, warmup: float) -> float:
    """The factor on the peak rate for update `update` (from 0): up in a line over `warmup` updates, down to 0 at

    `total`. `warmup` is a number of updates and not rounded: a share of 0.025 of 310 updates is 7.75 of them, so the
    first update has the rate 0 and the ninth is already past the peak. Source: transformers' linear schedule.
    """
    if update < warmup:
        return update / max(1.0, warmup)
    return max(0.0, (total - update) / max(1.0, total - warmup))


def warmup_updates(total: int, ratio: float) -> float:
    """How many updates a warm-up of that share of all of them lasts; not rounded."""
    return total * ratio


def total_updates(micro_batches: int, epochs: int, accumulation: int) -> int:
    """Updates that the published schedule spans: micro-batches of all epochs by the accumulation, rounded down.

    Fewer are done where an epoch's micro-batches are no multiple of the accumulation (see `updates_an_epoch`).
    """
    return int(micro_batches * epochs / accumulation)


def updates_an_epoch(micro_batches: int, accumulation: int) -> int:
    """Updates that an epoch does: what is left over at its end waits in the gradients for the next one."""
    return micro_batches // accumulation


def multistep_by_epoch(epoch: int, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """The factor on the encoder's rate in epoch `epoch` (from 0): `gamma` for every milestone reached."""
    factor = 1.0
    for milestone in milestones:
        if epoch >= milestone:
            factor *= gamma
    return factor


_UNDECAYED = ("bias", "LayerNorm.weight")


def decays(name: str, *, published_name: str | None = None) -> bool:
    """Whether AdamW's decay applies to the parameter of that name.

    The published rule reads names: whatever contains `bias` or `LayerNorm.weight` is spared, so that
    `visn_layer_norm.weight` and the normalisation of the answer head are decayed. It is applied to `published_name`
    where one is given; without it, every bias and every weight of a normalisation is spared.
    """
    if published_name is not None:
        return not any(part in published_name for part in _UNDECAYED)
    *_, module, leaf = ("", *name.split("."))
    return leaf != "bias" and not module.startswith("norm")


def decay_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, *, published: Callable[[str], str] | None = None
) -> list[dict[str, Any]]:
    """Two parameter groups, with and without decay, of those that want gradients; `published` gives theirs names."""
    spared: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in named:
        if parameter.requires_grad:
            theirs = None if published is None else published(name)
            (decayed if decays(name, published_name=theirs) else spared).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
