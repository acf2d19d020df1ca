"""Which words and cells of an example are matched: scores in, places and shares out, a whole batch at once.

What is chosen for an example depends on that example alone: not on padding, and not on the order of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipvil.distillation.settings import SelectionChoice


@dataclass(frozen=True)
class Selected:
    """Places (L, k) int64 of what was selected, rising, and their shares (L, k), which sum to 1 an example.

    Where fewer than k are selected the shares are 0 behind them; an example without candidates has none at all.
    """

    places: Tensor
    shares: Tensor


def select(scores: Tensor | None, valid: Tensor, choice: SelectionChoice, kind: str, noise: Tensor | None) -> Selected:
    """Choose among the candidates `valid` (L, N) bool by `scores` (L, N), as the policy says.

    `kind` is `relevance`, `random` or `uniform`; without scores `relevance` cannot be, and all are taken. `noise`
    (L, N) in 0..1 is what random choices are read from.
    """
    if kind == "uniform" or choice.policy == "all" or (kind == "relevance" and scores is None):
        taken = valid
        ranked = scores if kind == "relevance" and scores is not None else None
    else:
        ranked = noise if kind == "random" else scores
        assert ranked is not None
        taken = _taken(ranked, valid, choice, noise)
    weights = taken.float()
    if choice.shares == "relevance" and kind == "relevance" and ranked is not None:
        weights = _chances(ranked, valid, choice.temperature) * weights
    return _compact(taken, weights)


def _taken(scores: Tensor, valid: Tensor, choice: SelectionChoice, noise: Tensor | None) -> Tensor:
    masked = scores.masked_fill(~valid, float("-inf"))
    # Stable, so that equal scores are taken in the order of the text or picture whatever padding there is.
    order = masked.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    best = (rank == 0) & valid
    count = valid.sum(1, keepdim=True)
    if choice.policy == "top_k":
        # Less a hair: 0.3 * 10 is 3, not 4, in floating numbers too.
        return (rank < (choice.keep * count - 1e-6).ceil().clamp(min=1)) & valid
    if choice.policy == "threshold":
        known = scores.masked_fill(~valid, 0.0)
        mean = known.sum(1, keepdim=True) / count.clamp(min=1)
        spread = ((known - mean).masked_fill(~valid, 0.0).square().sum(1, keepdim=True) / count.clamp(min=1)).sqrt()
        return ((scores >= mean + choice.deviations * spread) & valid) | best
    chances = _chances(scores, valid, choice.temperature)
    if choice.policy == "nucleus":
        sorted_chances = chances.gather(1, order)
        before = (sorted_chances.cumsum(1) - sorted_chances).gather(1, rank)
        return ((before < choice.keep - 1e-6) & valid) | best
    assert noise is not None
    drawn = (noise < chances * choice.keep * count) & valid
    return drawn | (best & ~drawn.any(1, keepdim=True))


def _chances(scores: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Softmax over the candidates (L, N), 0 elsewhere, also where an example has none."""
    masked = (scores / temperature).masked_fill(~valid, float("-inf"))
    return masked.softmax(1).nan_to_num(0.0)


def _compact(taken: Tensor, weights: Tensor) -> Selected:
    width = max(int(taken.sum(1).max()), 1) if taken.numel() else 1
    places = (~taken).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    shares = weights.gather(1, places)
    return Selected(places, shares / shares.sum(1, keepdim=True).clamp(min=1e-12))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def noise(numbers: Tensor, width: int, *seed: int) -> Tensor:
    """Numbers in 0..1 (L, width), a function of the seed, each example's number and the place alone.

    So a run that is resumed draws as one that was not, and an example the same in whatever batch it comes. Source:
    the finalising steps of SplitMix64.
    """
    state = np.array([_GOLDEN], dtype=np.uint64)
    for part in seed:
        state = _mixed(state + np.uint64(part % 2**64))
    rows = _mixed(numbers.numpy().astype(np.uint64) + state)
    mixed = _mixed(rows[:, None] + np.arange(1, width + 1, dtype=np.uint64) * _GOLDEN)
    return torch.from_numpy((mixed >> np.uint64(40)).astype(np.float32) / np.float32(2**24))


def _mixed(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
