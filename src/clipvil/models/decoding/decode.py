"""From pictures in a captioner's memory to captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from clipvil.models.decoding.beam import beam_search
from clipvil.models.decoding.greedy import greedy
from clipvil.models.decoding.options import Decoding
from clipvil.models.decoding.sampling import sample
from clipvil.models.decoding.steps import CachedSteps, CaptionModel, PlainSteps, Steps
from clipvil.models.transformer_captioner import Memory


@dataclass(frozen=True)
class Decoded:
    """K captions of each of B pictures: greedy one, samples in the order drawn, beams best first (group by group)."""

    rows: Tensor
    """(B, K, T) int64: words, then 0. A caption that fills all T places has no end."""
    log_probs: Tensor
    """(B, K, T): of each token, the end included; 0 behind it. With rules (no_repeat and so on) what they left."""
    scores: Tensor
    """(B, K): what beams are ordered by, divided by the length penalty; elsewhere the summed log-probabilities."""


@torch.no_grad()
def decode(
    model: CaptionModel,
    memory: Memory,
    options: Decoding,
    generator: torch.Generator | None = None,
    *,
    cache: bool = True,
) -> Decoded:
    """Caption the pictures that `model.encode` returned; dropout is off meanwhile.

    `generator` draws the samples (torch's own where left out). `cache=False` reads all words and cells anew at each
    word, which gives the same captions slowly.
    """
    pictures, device = len(memory), memory.cells.device
    with _without_dropout(model):
        steps: Steps = CachedSteps(model, memory) if cache else PlainSteps(model, memory)
        if options.method == "beam":
            return Decoded(*beam_search(steps, pictures, options, device))
        if options.method == "sample":
            rows, log_probs = sample(steps, pictures, options, device, generator)
        else:
            rows, log_probs = greedy(steps, pictures, options, device)
    return Decoded(rows, log_probs, log_probs.sum(2))


@contextmanager
def _without_dropout(model: CaptionModel) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
