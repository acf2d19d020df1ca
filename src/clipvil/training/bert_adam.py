"""The AdamW of transformers 3.3.1, which CLIP-ViL_p trains everything but its encoder with.

Its two differences from torch's show in the weights. The encoder has SGD without momentum; one gradient norm over both
is clipped at 1. Recipes ask for both (`optimiser`, `trunk.optimiser`), and for their schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor


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
