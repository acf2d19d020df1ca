"""The likeliest word at every place."""

from __future__ import annotations

import torch
from torch import Tensor

from clipvil.models.decoding.options import Decoding
from clipvil.models.decoding.rules import ruled
from clipvil.models.decoding.steps import Steps


def greedy(steps: Steps, pictures: int, options: Decoding, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (B, 1, T) int64 and log-probabilities (B, 1, T) of their tokens, both 0 behind the end.

    A picture whose caption has ended is left out of the steps that follow.
    """
    rows = torch.zeros(pictures, options.max_length, dtype=torch.int64, device=device)
    log_probs = torch.zeros(pictures, options.max_length, device=device)
    live, tokens = torch.arange(pictures, device=device), torch.zeros(pictures, dtype=torch.int64, device=device)
    for place in range(options.max_length):
        values, tokens = ruled(steps.step(tokens), rows[live, :place], options).max(dim=1)
        rows[live, place], log_probs[live, place] = tokens, values
        going = tokens.nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(live) and place + 1 < options.max_length:
            live, tokens = live[going], tokens[going]
            steps.keep(going)
    return rows.unsqueeze(1), log_probs.unsqueeze(1)
