"""Distances between a student's projected states and a teacher's vectors, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

NCE_TEMPERATURE = 0.07


def normalised_l2(student: Tensor, teacher: Tensor) -> Tensor:
    """|u/|u| - v/|v||^2 = 2 - 2 cos: 0 to 4."""
    return 2 - 2 * functional.cosine_similarity(student, teacher, dim=-1)


def l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference over the channels."""
    return (student - teacher).abs().mean(-1)


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over the channels."""
    return (student - teacher).square().mean(-1)


def smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber's, squared below 1, over the channels."""
    return functional.smooth_l1_loss(student, teacher, reduction="none").mean(-1)


def info_nce(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of telling the own vector from those of the other examples at the same place of their list.

    (L, ..., D): the L examples of the batch are each other's negatives. Cosines at temperature 0.07.
    """
    u = functional.normalize(student, dim=-1).flatten(1, -2) if student.ndim > 2 else student[:, None]
    v = functional.normalize(teacher, dim=-1).flatten(1, -2) if teacher.ndim > 2 else teacher[:, None]
    if student.ndim <= 2:
        u, v = functional.normalize(u, dim=-1), functional.normalize(v, dim=-1)
    cosines = torch.einsum("lkd,mkd->klm", u, v) / NCE_TEMPERATURE
    own = torch.arange(len(u), device=u.device).expand(cosines.shape[0], -1)
    loss = functional.cross_entropy(cosines.flatten(0, 1), own.flatten(), reduction="none")
    return loss.view(cosines.shape[0], -1).T.reshape(student.shape[:-1])


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normalised_l2": normalised_l2,
    "l1": l1,
    "mse": mse,
    "smooth_l1": smooth_l1,
    "info_nce": info_nce,
}
"""(..., D), (..., D) -> (...)."""
