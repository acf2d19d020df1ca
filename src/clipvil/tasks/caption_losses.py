"""The losses of the published captioner: cross-entropy, label smoothing and self-critical (Rennie et al. 2017).

Rows of word ids: 0 is the start, the end and the padding. `log_probs` are (M, T, V), `targets` (M, T) int64 and `mask`
(M, T), which is not zero for every word and exactly one end.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["greedy", "leave_one_out"]


def cross_entropy(log_probs: Tensor, targets: Tensor, mask: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean over tokens of the negative log-probability of the target.

    With `smoothing` s it is the Kullback-Leibler divergence from a distribution that gives 1 - s to the target and
    shares s among all other classes: its own entropy is taken off, so that its least value is 0.
    """
    chosen = log_probs.gather(2, targets.unsqueeze(2)).squeeze(2)
    if smoothing:
        others = log_probs.shape[2] - 1
        share = torch.tensor(smoothing / others, dtype=torch.float64)
        entropy = smoothing * float(share.log()) + (1 - smoothing) * float(torch.tensor(1 - smoothing).double().log())
        chosen = (1 - smoothing) * chosen + float(share) * (log_probs.sum(2) - chosen) - entropy
    return -_masked_mean(chosen, mask)


def token_mask(rows: Tensor) -> Tensor:
    """The tokens (M, T) that count in rows of word ids: all up to and including the first 0."""
    ended = (rows == 0).cumsum(1)
    return (ended == 0) | ((ended == 1) & (rows == 0))


def self_critical(log_probs: Tensor, mask: Tensor, advantage: Tensor) -> Tensor:
    """Minus the mean over all tokens of log-probability times advantage.

    `log_probs` (M, T) are those of the sampled tokens, `mask` as of `token_mask`, `advantage` (M,) the reward of each
    sample less its baseline.
    """
    return -_masked_mean(log_probs * advantage.unsqueeze(1), mask)


def advantages(rewards: Tensor, greedy: Tensor | None = None) -> Tensor:
    """What each of K samples of B pictures gained over its baseline: (B, K) from `rewards` (B, K).

    The baseline is the reward `greedy` (B,) of the picture's greedy caption, or where that is None the mean reward of
    the picture's other samples, for which K must be at least 2.
    """
    if greedy is not None:
        return rewards - greedy.unsqueeze(1)
    count = rewards.shape[1]
    if count < 2:
        raise ValueError("the mean of the other samples needs at least two samples a picture")
    return rewards - (rewards.sum(1, keepdim=True) - rewards) / (count - 1)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    weight = mask.to(values.dtype)
    # A batch whose pictures have no captions has no tokens: nothing is learnt from it, rather than NaN.
    return (values * weight).sum() / weight.sum().clamp(min=1)
