"""Captioners for tests: the recorded one, and small ones with random weights."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from clipvil.convert.clip_vil_captioner import from_clip_vil
from clipvil.models.transformer_captioner import TransformerCaptioner, build
from tests.shared import shared

SMALL = {"hidden": 16, "feed_size": 24, "heads": 4, "encoder_layers": 1, "decoder_layers": 2}


def recorded() -> tuple[TransformerCaptioner, dict[str, Tensor]]:
    """The recorded network, dropout off, with its inputs and outputs; skips the test where they are not there."""
    folder = shared("fixtures", "captioner")
    model = from_clip_vil(load_file(folder / "model.safetensors"), heads=4)
    return model.eval(), load_file(folder / "io.safetensors")


def small(words: int = 11, channels: int = 6, seed: int = 1, **options: Any) -> TransformerCaptioner:
    """Random weights whose captions differ in length; dropout off."""
    torch.manual_seed(seed)
    model = build({**SMALL, **options}, words=words, channels=channels).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.6)
        nn.init.normal_(model.output.bias, std=0.7)
        model.output.bias[0] = 1.0
    return model


def pictures(count: int = 4, cells: int = 7, channels: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Cells (B, N, C) and a mask (B, N) of pictures of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, cells + 1, (count,), generator=generator)
    sizes[0] = cells
    mask = torch.arange(cells) < sizes.unsqueeze(1)
    return torch.randn(count, cells, channels, generator=generator), mask
