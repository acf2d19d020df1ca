"""How much each example's teacher is trusted: the forms C1 to C5 of docs/distillation.md. All of them are our reading.

Every form gives a number per example, at least 0, which is then divided by the mean over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

NEEDS_CHANCES = ("correctness", "entropy", "margin", "relative")


def confidence(form: str, chances: Tensor | None, gold: Tensor | None, agreement: Tensor | None) -> Tensor:
    """Weights (L,), not normalised.

    `chances` (L, C) is what the teacher gives to each class or choice (0 behind an example's last one), `gold` (L,) the
    right one, `agreement` (L,) the alignment of `alignment`. `correctness`: chances[gold]. `entropy`: 1 - H / log C.
    `margin`: first less second. `relative` is `correctness` here; what the student knows is taken off later.
    """
    if form == "alignment":
        assert agreement is not None
        return agreement
    assert chances is not None
    if form in ("correctness", "relative"):
        assert gold is not None
        return chances.gather(1, gold[:, None])[:, 0]
    count = (chances > 0).sum(1).clamp(min=2)
    if form == "entropy":
        entropy = -(chances * chances.clamp(min=1e-12).log()).sum(1)
        return (1 - entropy / count.log()).clamp(min=0)
    best = chances.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def alignment(cosines: Tensor, polarity: Tensor) -> Tensor:
    """C4: the sigmoid of how many standard deviations an example's cosine (L,) lies above the training set's mean.

    Where picture and text do not belong together (polarity -1) a low cosine is what a right teacher gives, and where
    nothing can be said (0) every example gets 0.5. The mean is that of the whole training set and not a running one, so
    that a run that is resumed weighs as one that was not.
    """
    deviations = (cosines - cosines.mean()) / cosines.std(correction=0).clamp(min=1e-6)
    return torch.sigmoid(deviations * polarity)


def normalised(weights: Tensor) -> Tensor:
    """Weights of mean 1 over the batch, so that the factors on the terms keep their meaning; all 0 where all are 0."""
    mean = weights.mean()
    return torch.where(mean > 0, weights / mean.clamp(min=1e-12), torch.zeros_like(weights))


def relative(teacher: Tensor, student_loss: Tensor) -> Tensor:
    """C5: max(0, student's loss - teacher's loss); `teacher` (L,) is the chance that its probe gives to the truth."""
    return (student_loss.detach() + teacher.clamp(min=1e-6).log()).clamp(min=0)


def choice_chances(pictures: Tensor, choices: Sequence[Tensor], scale: float) -> Tensor:
    """C1 where choices are texts: softmax of scale * cosine over each example's choices, (L, C), 0 behind the last.

    pictures (L, D); choices: of each example its texts' vectors (C_l, D).
    """
    out = torch.zeros(len(choices), max(len(one) for one in choices))
    for row, vectors in enumerate(choices):
        cosines = functional.cosine_similarity(vectors, pictures[row : row + 1], dim=1)
        out[row, : len(vectors)] = (scale * cosines).softmax(0)
    return out
