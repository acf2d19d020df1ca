"""The losses of CLIP-ViL_p as pure functions of logits and labels, and the masking of words.

A label of -1 does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from clipvil.tasks.losses import LossTerms

IGNORED = -1
MASK_SHARE = 0.15


def counted_terms(asked: Mapping[str, tuple[Tensor, Tensor]]) -> LossTerms:
    """Cross-entropies by objective, each over the labels (...) that are not -1, of logits (..., classes).

    Every weight is 1, as published. An objective without a label that counts is 0; the released code says NaN there.
    """
    sums, weights = [], []
    for logits, labels in asked.values():
        flat, wanted = logits.flatten(0, -2).float(), labels.flatten()
        sums.append(functional.cross_entropy(flat, wanted, ignore_index=IGNORED, reduction="sum"))
        weights.append((wanted != IGNORED).sum())
    return LossTerms(torch.stack(sums), torch.stack(weights).float(), tuple(asked))


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
