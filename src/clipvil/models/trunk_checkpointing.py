"""Activation checkpointing for any network: repeated blocks are found and computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from clipvil.models.trunk_norms import norms


class Recompute:
    """What a block must find again when it is computed a second time: `keep` says it, `kept` is it."""

    def __init__(self) -> None:
        self.keep: Callable[[], Any] = lambda: None
        self.kept: Any = None

    @contextmanager
    def again(self, block: nn.Module, kept: Any) -> Iterator[None]:
        """While a block runs again: the kept values are back, and running statistics do not move a second time."""
        layers = [layer for layer in norms(block) if layer.training and layer.track_running_stats]
        before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
        outer, self.kept = self.kept, kept
        for layer in layers:
            layer.momentum = 0.0
            layer.num_batches_tracked = None
        try:
            yield
        finally:
            self.kept = outer
            for layer, (momentum, count) in zip(layers, before, strict=True):
                layer.momentum, layer.num_batches_tracked = momentum, count


def checkpoint_blocks(module: nn.Module, recompute: Recompute) -> int:
    """Checkpoint every child of the outermost lists of alike blocks; returns how many.

    Alike: of one class that has layers of its own (residual blocks, transformer blocks).
    """
    blocks = list(repeated_blocks(module))
    for block in blocks:
        _wrap(block, recompute)
    return len(blocks)


def repeated_blocks(module: nn.Module, skip: Callable[[nn.Module], bool] = lambda _: False) -> Iterator[nn.Module]:
    """The children of the outermost lists of alike blocks, in order, but for what lies in modules to `skip`."""
    for child in module.children():
        if skip(child):
            continue
        parts = list(child.children())
        alike = (
            isinstance(child, nn.ModuleList | nn.Sequential)
            and bool(parts)
            and len({type(part) for part in parts}) == 1
            and not isinstance(parts[0], nn.ModuleList | nn.Sequential)
            and any(True for _ in parts[0].children())
        )
        if alike:
            yield from parts
        else:
            yield from repeated_blocks(child, skip)


def _wrap(block: nn.Module, recompute: Recompute) -> None:
    plain = block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        kept = recompute.keep()

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), recompute.again(block, kept)

        return checkpoint(plain, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    block.forward = forward
