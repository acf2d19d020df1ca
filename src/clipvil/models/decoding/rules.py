"""Words that are made unlikely whatever the model says."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipvil.models.decoding.options import Decoding

_TRIGRAM = 2 * math.log(2)
_UNKNOWN = 1000.0


def ruled(log_probs: Tensor, said: Tensor, options: Decoding) -> Tensor:
    """Log-probabilities (M, V) of the next word behind `said` (M, t) int64, with what the options take off.

    They are not renormalised, as in the published decoder.
    """
    if options.no_repeat and said.shape[1]:
        log_probs = log_probs.scatter(1, said[:, -1:], -math.inf)
    if options.block_trigrams and said.shape[1] >= 3:
        triples = said.unfold(1, 3, 1)
        again = (triples[:, :, :2] == said[:, None, -2:]).all(2)
        log_probs = log_probs.scatter_add(1, triples[:, :, 2], again.to(log_probs.dtype) * -_TRIGRAM)
    if options.suppress_unknown:
        last = torch.zeros_like(log_probs[0])
        last[-1] = _UNKNOWN
        log_probs = log_probs - last
    return log_probs
