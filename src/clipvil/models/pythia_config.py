"""Sizes and options of Pythia, and the two sets of them that recipes name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clipvil.errors import RecipeError
from clipvil.models.settings import configuration

TextMask = Literal["published", "real"]
Attention = Literal["product", "dot"]


@dataclass(frozen=True)
class PythiaConfig:
    """Sizes (defaults as published) and options (defaults off)."""

    word_size: int = 300
    lstm_size: int = 1024
    question_hidden: int = 512
    question_glimpses: int = 2
    attention_size: int = 5000
    fusion_size: int = 5000
    narrow_size: int = 300
    wide_size: int = 5000
    text_mask: TextMask = "published"
    """`published`: LSTM and word attention run over the padding too, as the original does; `real`: words only."""
    normalise: bool = False
    """Layer-normalise cells over their channels (encoders differ in scale by orders of magnitude), the question vector
    and what was attended to."""
    cell_size: int = field(default=0, metadata={"least": 0})
    """Bring cells down to this many channels by a linear layer and a ReLU before anything else; 0: leave them."""
    cell_positions: bool = False
    """Tell the attention where a cell lies: its place in the grid enters the cell as a learned linear term."""
    image_glimpses: int = 1
    """How many attentions over the cells; what they attend to is concatenated."""
    attention: Attention = "product"
    """`product`: scores from the element-wise product of two ReLU layers, as published; `dot`: each glimpse is a scaled
    dot product of its own projections of cell and question, which learns to find things in fewer steps."""
    match_strength: bool = False
    """Tell the fusion how well the cells matched: the largest score and the number of matching cells of each glimpse. A
    softmax says where something is, not whether it is there or how often. Needs `attention: dot`."""
    word_mean: bool = False
    """The mean word vector joins the question vector: single words reach the attention before the LSTM has learned."""
    answer_bias: float = 0.0
    """Where the logits start. Of many answers few are right, and learning that takes the first hundred steps."""
    dropout: float = 0.0
    """On the question vector, on what was attended to, and before every weight-normed layer of the heads."""


PRESETS: Mapping[str, PythiaConfig] = {
    "published": PythiaConfig(),
    "mini": PythiaConfig(
        word_size=48,
        lstm_size=96,
        question_hidden=64,
        attention_size=128,
        fusion_size=256,
        narrow_size=64,
        wide_size=256,
        text_mask="real",
        normalise=True,
        cell_size=128,
        cell_positions=True,
        image_glimpses=8,
        attention="dot",
        match_strength=True,
        word_mean=True,
        answer_bias=-4.0,
        dropout=0.1,
    ),
}


def configure(settings: Mapping[str, Any], *, word_size: int | None = None) -> PythiaConfig:
    """The configuration of a recipe's `model` section; see `settings.configuration`."""
    config = configuration(PRESETS, settings, model="Pythia", default="published", word_size=word_size)
    if config.match_strength and config.attention != "dot":
        raise RecipeError("'model.match_strength' needs 'model.attention' to be dot")
    if config.attention == "dot" and config.attention_size % config.image_glimpses:
        raise RecipeError("'model.attention_size' must be a multiple of 'model.image_glimpses'")
    return config
