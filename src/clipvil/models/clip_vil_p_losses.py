"""The losses of CLIP-ViL_p as pure functions of logits and labels, and the masking of words.

A label of -1 does not count. Published, a loss over no label that counts is NaN (its gradient 0); here it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clipvil.models.clip_vil_p_config import Behaviour

IGNORED = -1
MASK_SHARE = 0.15
LOSS_SCALE = 500.0
"""What CLIP-ViL_p multiplies the mean binary cross-entropy by on VQA and GQA; its code without the option: N."""


def counted_cross_entropy(logits: Tensor, labels: Tensor, behaviour: Behaviour = "sane") -> Tensor:
    """Mean cross-entropy (scalar, float32) over the labels (...) that are not -1, of logits (..., classes)."""
    flat, wanted = logits.flatten(0, -2).float(), labels.flatten()
    if behaviour == "published":
        return functional.cross_entropy(flat, wanted, ignore_index=IGNORED)
    total = functional.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="sum")
    return total / (wanted != IGNORED).sum().clamp(min=1)


@dataclass
class PretrainingLosses:
    """Each objective's mean, None where it was not asked for, and how many labels it counts."""

    mlm: Tensor | None
    itm: Tensor | None
    answers: Tensor | None
    counts: dict[str, Tensor]
    """Labels that count, by objective: what means of several processes or micro-batches are weighted with."""

    @property
    def total(self) -> Tensor:
        """The sum, every weight 1, as published."""
        parts = [part for part in (self.mlm, self.itm, self.answers) if part is not None]
        return torch.stack(parts).sum()


def pretraining_losses(
    *,
    mlm: tuple[Tensor, Tensor] | None = None,
    itm: tuple[Tensor, Tensor] | None = None,
    answers: tuple[Tensor, Tensor] | None = None,
    behaviour: Behaviour = "sane",
) -> PretrainingLosses:
    """Losses of the objectives that are given, each as (logits, labels).

    `mlm` (B, T, words) and (B, T), or (M, words) and (M,) of the masked places alone; `itm` (B, 2) and (B,), 1 where
    text and picture belong together; `answers` (B, N) and (B,), -1 where a pair is mismatched or has no answer.
    """
    given = {"mlm": mlm, "itm": itm, "answers": answers}
    losses = {name: None if pair is None else counted_cross_entropy(*pair, behaviour) for name, pair in given.items()}
    counts = {name: (pair[1] != IGNORED).sum() for name, pair in given.items() if pair is not None}
    return PretrainingLosses(losses["mlm"], losses["itm"], losses["answers"], counts)


def answer_bce(logits: Tensor, targets: Tensor, scale: float | None = LOSS_SCALE) -> Tensor:
    """VQA and GQA fine-tuning: mean binary cross-entropy over batch and answers (B, N), times `scale`.

    `scale` None multiplies by N, which is the sum over answers averaged over the batch.
    """
    mean = functional.binary_cross_entropy_with_logits(logits.float(), targets.float())
    return mean * (logits.shape[1] if scale is None else scale)


def entailment_loss(logits: Tensor, labels: Tensor, behaviour: Behaviour = "sane") -> Tensor:
    """SNLI-VE fine-tuning: mean three-way cross-entropy; labels (B,), -1 where the annotators did not agree."""
    return counted_cross_entropy(logits, labels, behaviour)


def mask_words(
    tokens: Tensor,
    *,
    special: Sequence[int],
    mask: int,
    words: int,
    generator: torch.Generator | None = None,
    share: float = MASK_SHARE,
) -> tuple[Tensor, Tensor]:
    """Hide words: tokens (B, T) -> (tokens as the model sees them, labels (B, T), -1 where nothing is asked).

    Each place that holds none of the `special` rows is picked with probability `share`; of the picked ones 80 % become
    row `mask`, 10 % a row drawn from all `words` (special ones included, as published) and 10 % stay. A pure function
    of tokens and generator, which must live on their device.
    """
    apart = torch.tensor(list(special), dtype=tokens.dtype, device=tokens.device)
    draw = torch.rand(tokens.shape, generator=generator, device=tokens.device)
    fate = torch.rand(tokens.shape, generator=generator, device=tokens.device)
    other = torch.randint(words, tokens.shape, generator=generator, device=tokens.device, dtype=tokens.dtype)
    picked = (draw < share) & ~torch.isin(tokens, apart)
    labels = torch.where(picked, tokens, IGNORED)
    seen = torch.where(picked & (fate < 0.8), mask, tokens)
    return torch.where(picked & (fate >= 0.9), other, seen), labels
