"""Words drawn as the model finds them likely."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipvil.models.decoding.options import Decoding
from clipvil.models.decoding.rules import ruled
from clipvil.models.decoding.steps import Steps


def sample(
    steps: Steps, pictures: int, options: Decoding, device: torch.device, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Rows (B, K, T) int64 of `options.samples` captions a picture, in the order drawn, and their log-probabilities.

    Log-probabilities (B, K, T) are those of the model after the rules, before temperature, top_k and top_p. Both are 0
    behind the end. A picture all of whose captions have ended is left out of the steps that follow.
    """
    count, length = options.samples, options.max_length
    rows = torch.zeros(pictures, count, length, dtype=torch.int64, device=device)
    log_probs = torch.zeros(pictures, count, length, device=device)
    live = torch.arange(pictures, device=device)
    # The first word of all captions of a picture comes of the same distribution.
    found = ruled(steps.step(torch.zeros_like(live)), rows[:, 0, :0], options)
    tokens = torch.multinomial(_weights(found, options), count, replacement=True, generator=generator)
    rows[:, :, 0], log_probs[:, :, 0] = tokens, found.gather(1, tokens)
    steps.select(live.repeat_interleave(count))
    for place in range(1, length):
        going = tokens.any(dim=1).nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(live):
            live, tokens = live[going], tokens[going]
            steps.keep(going)
        ended = tokens == 0
        found = ruled(steps.step(tokens.flatten()), rows[live, :, :place].flatten(0, 1), options)
        drawn = torch.multinomial(_weights(found, options), 1, generator=generator)
        tokens = drawn.view(-1, count).masked_fill(ended, 0)
        rows[live, :, place] = tokens
        log_probs[live, :, place] = found.gather(1, drawn).view(-1, count).masked_fill(ended, 0.0)
    return rows, log_probs


def _weights(log_probs: Tensor, options: Decoding) -> Tensor:
    """What to draw by: (M, V), each row with at least one word above 0."""
    log_probs = log_probs / options.temperature
    if 0 < options.top_k < log_probs.shape[1]:
        least = log_probs.topk(options.top_k, dim=1).values[:, -1:]
        log_probs = log_probs.masked_fill(log_probs < least, -math.inf)
    weights = log_probs.softmax(dim=1)
    if options.top_p < 1:
        ordered, index = weights.sort(dim=1, descending=True)
        # The word that reaches the share is still taken.
        beyond = ordered.cumsum(dim=1) - ordered >= options.top_p
        weights = torch.zeros_like(weights).scatter(1, index, ordered.masked_fill(beyond, 0.0))
    return weights
