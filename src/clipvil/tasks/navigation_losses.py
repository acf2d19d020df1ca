"""The two losses of EnvDrop's follower: imitation, and advantage actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clipvil.models.envdrop import EnvDrop
from clipvil.tasks.navigation_rollout import ENDED, Rollout

Normalise = Literal["total", "batch", "none"]


def imitation_loss(rollout: Rollout) -> Tensor:
    """Cross-entropy against the teacher's slots, summed over steps and agents, divided by the number of agents."""
    device = rollout.logits[0].device
    losses = [
        functional.cross_entropy(
            logits.float(), torch.from_numpy(slots).to(device), ignore_index=ENDED, reduction="sum"
        )
        for logits, slots in zip(rollout.logits, rollout.teacher, strict=True)
    ]
    return torch.stack(losses).sum() / len(rollout.start)


@dataclass(frozen=True)
class ActorCritic:
    """The loss and its parts, the parts summed over the active agents of each step: (T,) each."""

    loss: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    returns: Tensor
    """(T, B)."""


def actor_critic_loss(
    model: EnvDrop,
    rollout: Rollout,
    *,
    gamma: float = 0.9,
    entropy_weight: float = 0.01,
    value_weight: float = 0.5,
    normalise: Normalise = "total",
) -> ActorCritic:
    """A2C over a sampled rollout. Episodes that are not over go on with what the critic expects of the rest.

    The advantage is no path for gradients; the critic's error is one, into the decoder too, as published. `total`
    divides by the number of decisions, `batch` by that of agents.
    """
    device = rollout.logits[0].device
    active = torch.from_numpy(np.stack(rollout.active)).to(device)
    rewards = torch.from_numpy(np.stack(rollout.rewards)).to(device, torch.float32)
    ahead = torch.zeros_like(rewards[0])
    if rollout.last_hidden is not None:
        ended = torch.from_numpy(rollout.ended).to(device)
        ahead = model.value(rollout.last_hidden).detach().float().masked_fill(ended, 0.0)
    returns: list[Tensor] = []
    for reward in rewards.flip(0):
        ahead = reward + gamma * ahead
        returns.insert(0, ahead)
    policy, value, entropy = [], [], []
    for step, logits in enumerate(rollout.logits):
        mask = active[step].float()
        log_probs = logits.float().log_softmax(1)
        slots = torch.from_numpy(rollout.slots[step]).to(device)
        taken = log_probs.gather(1, slots.unsqueeze(1)).squeeze(1)
        expected = model.value(rollout.hidden[step]).float()
        gain = (returns[step] - expected).detach()
        # An impossible slot has log probability -inf and weighs nothing.
        spread = -(log_probs.exp() * log_probs.masked_fill(torch.isinf(log_probs), 0.0)).sum(1)
        policy.append((-taken * gain * mask).sum())
        value.append((value_weight * (returns[step] - expected) ** 2 * mask).sum())
        entropy.append((-entropy_weight * spread * mask).sum())
    parts = [torch.stack(part) for part in (policy, value, entropy)]
    divisor = {"total": float(active.sum()), "batch": float(len(rollout.start)), "none": 1.0}[normalise]
    loss = torch.stack(parts).sum() / max(divisor, 1.0)
    return ActorCritic(loss, parts[0], parts[1], parts[2], torch.stack(returns))
