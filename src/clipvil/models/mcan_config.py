"""Sizes and options of plain MCAN and of MoVie+MCAN, and the sets of them that recipes name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clipvil.errors import RecipeError
from clipvil.models.settings import configuration

Padding = Literal["masked", "published"]


@dataclass(frozen=True)
class McanConfig:
    """Plain MCAN: sizes (defaults are the published small model) and options (defaults off)."""

    word_size: int = 300
    hidden: int = 512
    heads: int = 8
    text_layers: int = 6
    image_layers: int = 6
    pool_hidden: int = 512
    joint_size: int = 1024
    dropout: float = 0.1
    normalise: bool = False
    """Layer-normalise cells over their channels: encoders differ in scale by orders of magnitude."""
    cell_positions: bool = False
    """Tell the attention where a cell lies; the published model is given no places."""
    answer_bias: float = 0.0
    """Where the logits start. Of many answers few are right, and learning that takes the first hundred steps."""


@dataclass(frozen=True)
class MovieMcanConfig:
    """MoVie+MCAN: sizes (defaults as CLIP-ViL trained it) and options (defaults off, but for the mask)."""

    word_size: int = 300
    hidden: int = 1024
    heads: int = 8
    text_layers: int = 6
    image_layers: int = 6
    movie_layers: int = field(default=4, metadata={"least": 0})
    movie_size: int = 1024
    """Channels of the convolution branch; a quarter of them inside its bottlenecks."""
    dropout: float = 0.1
    padding: Padding = "masked"
    """`masked`: the network runs over the cells there are; `published`: grids are padded with zeros to a square of
    `padded_side` cells that take part in attention, pooling and averages like any other, as the original does it."""
    padded_side: int = 32
    normalise: bool = False
    """Layer-normalise cells over their channels: encoders differ in scale by orders of magnitude."""
    cell_positions: bool = False
    """Tell the attention where a cell lies; the published model is given no places."""
    answer_bias: float = 0.0
    """Where the logits start. Of many answers few are right, and learning that takes the first hundred steps."""


MCAN_PRESETS: Mapping[str, McanConfig] = {
    "small": McanConfig(),
    "large": McanConfig(hidden=1024, joint_size=2048),
    "mini": McanConfig(
        word_size=48,
        hidden=64,
        heads=4,
        text_layers=1,
        image_layers=2,
        pool_hidden=64,
        joint_size=128,
        dropout=0.0,
        normalise=True,
        cell_positions=True,
        answer_bias=-4.0,
    ),
}

MOVIE_MCAN_PRESETS: Mapping[str, MovieMcanConfig] = {
    "published": MovieMcanConfig(padding="published"),
    "large": MovieMcanConfig(),
    "small": MovieMcanConfig(hidden=512, movie_size=512),
    "mini": MovieMcanConfig(
        word_size=48,
        hidden=64,
        heads=4,
        text_layers=1,
        image_layers=2,
        movie_layers=2,
        movie_size=64,
        dropout=0.0,
        normalise=True,
        cell_positions=True,
        answer_bias=-4.0,
    ),
}


def configure_mcan(settings: Mapping[str, Any], *, word_size: int | None = None) -> McanConfig:
    """The configuration of a recipe's `model` section; see `settings.configuration`."""
    config = configuration(MCAN_PRESETS, settings, model="MCAN", default="small", word_size=word_size)
    _check_heads(config)
    return config


def configure_movie_mcan(settings: Mapping[str, Any], *, word_size: int | None = None) -> MovieMcanConfig:
    """The configuration of a recipe's `model` section; see `settings.configuration`."""
    config = configuration(MOVIE_MCAN_PRESETS, settings, model="MoVie+MCAN", default="large", word_size=word_size)
    _check_heads(config)
    if config.movie_size % 4:
        raise RecipeError(f"'model.movie_size' must be a multiple of 4, not {config.movie_size}")
    return config


def _check_heads(config: McanConfig | MovieMcanConfig) -> None:
    if config.hidden % config.heads:
        raise RecipeError("'model.hidden' must be a multiple of 'model.heads'")


def sizes(config: McanConfig | MovieMcanConfig) -> dict[str, Any]:
    """The configuration as a recipe's `model` section writes it, every field spelled out."""
    return dataclasses.asdict(config)
