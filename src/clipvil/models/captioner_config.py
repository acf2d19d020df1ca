"""Sizes and options of the transformer captioner, and the sets of them that recipes name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from clipvil.errors import RecipeError
from clipvil.models.settings import configuration

Norm = Literal["published", "standard"]


@dataclass(frozen=True)
class CaptionerConfig:
    """Sizes (defaults as CLIP-ViL-Direct trains it) and options (defaults off, which is as published)."""

    hidden: int = 512
    feed_size: int = 2048
    """Width of the feed-forward layers."""
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 6
    dropout: float = 0.1
    """Of attention weights, feed-forward layers, words with their places, and what each block adds."""
    cell_dropout: float = 0.5
    """Of the projected cells, before the first block."""
    norm: Norm = "published"
    """`published` divides by the unbiased standard deviation plus 1e-6; `standard` is PyTorch's layer normalisation."""
    normalise: bool = False
    """Layer-normalise cells over their channels: encoders differ in scale by orders of magnitude."""
    cell_positions: bool = False
    """Tell the encoder where a cell lies; the published model sees a set of cells."""
    tied: bool = False
    """The output layer uses the word table; published are two tables."""


PRESETS: Mapping[str, CaptionerConfig] = {
    "published": CaptionerConfig(),
    "mini": CaptionerConfig(
        hidden=64,
        feed_size=256,
        heads=4,
        encoder_layers=2,
        decoder_layers=2,
        cell_dropout=0.1,
        norm="standard",
        normalise=True,
        cell_positions=True,
    ),
}


def configure(settings: Mapping[str, Any]) -> CaptionerConfig:
    """The configuration of a recipe's `model` section; see `settings.configuration`."""
    config = configuration(PRESETS, settings, model="captioner", default="published")
    if config.hidden % config.heads:
        raise RecipeError("'model.hidden' must be a multiple of 'model.heads'")
    if config.hidden % 2:
        raise RecipeError("'model.hidden' must be even: half of a word's place are sines, half cosines")
    if not 0 <= config.cell_dropout < 1:
        raise RecipeError(f"'model.cell_dropout' must be at least 0 and below 1, not {config.cell_dropout}")
    return config
