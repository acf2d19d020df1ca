"""Sizes and options of the EnvDrop agent and its speaker, and the sets of them that recipes name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from clipvil.errors import RecipeError
from clipvil.models.settings import configuration

Start = Literal["max", "max_of_words", "last", "zero"]
ActionAngles = Literal["absolute", "turn"]
Stop = Literal["zero", "learned"]


@dataclass(frozen=True)
class EnvDropConfig:
    """Sizes and options; defaults as CLIP-ViL trains on R2R, its surprising choices among them.

    Of the options with a name the first is the published one.
    """

    hidden: int = 512
    word_size: int = 256
    action_size: int = 64
    angle_size: int = 128
    """Length of the angle features that follow each view's features; a multiple of 4."""
    bidirectional: bool = True
    dropout: float = 0.5
    feature_dropout: float = 0.3
    """Of the visual features, never of the angles; with environmental dropout the share of its mask."""
    start: Start = "max"
    """What the decoder starts from. `max`: the maximum over time of all rows of the batch, the zeros behind a shorter
    instruction among them, so that it depends a little on what else is in the batch. `max_of_words`: of the words
    alone. `last`: the last hidden states. `zero`: nothing, the cell neither."""
    action_angles: ActionAngles = "absolute"
    """What the decoder is told of the last action. `absolute`: where the agent looks in the coordinates of the house,
    which says nothing in a house it does not know. `turn`: by how much it turned."""
    stop: Stop = "zero"
    """Features of stopping. `zero`: none, so its score is exactly 0 always, and to stop is to score all ways below 0.
    `learned`: a vector of weights."""
    normalise: bool = False
    """Layer-normalise visual features: encoders differ in scale by orders of magnitude."""


PRESETS: Mapping[str, EnvDropConfig] = {
    "published": EnvDropConfig(),
    "sane": EnvDropConfig(start="max_of_words", action_angles="turn", stop="learned", normalise=True),
    "mini": EnvDropConfig(
        hidden=128,
        word_size=64,
        action_size=16,
        angle_size=32,
        dropout=0.3,
        feature_dropout=0.2,
        start="max_of_words",
        action_angles="turn",
        stop="learned",
        normalise=True,
    ),
}


def configure(settings: Mapping[str, Any]) -> EnvDropConfig:
    """The configuration of a recipe's `model` section; see `settings.configuration`."""
    config = configuration(PRESETS, settings, model="envdrop", default="published")
    if config.hidden % 2:
        raise RecipeError("'model.hidden' must be even: half of it reads forwards, half backwards")
    if config.angle_size % 4:
        raise RecipeError("'model.angle_size' must be a multiple of 4: sine and cosine of two angles, repeated")
    if not 0 <= config.feature_dropout < 1:
        raise RecipeError(f"'model.feature_dropout' must be at least 0 and below 1, not {config.feature_dropout}")
    return config
