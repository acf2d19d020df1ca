"""Sizes and options of CLIP-ViL_p, and the sets of them that recipes name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clipvil.errors import RecipeError
from clipvil.models.settings import configuration

Behaviour = Literal["sane", "published"]
Pooler = Literal["behaviour", "linear", "tanh"]


@dataclass(frozen=True)
class ClipVilPConfig:
    """Sizes (defaults are the published ones, BERT-base) and options; docs/clip-vil-p.md has the table of differences.

    Source: Shen et al. 2021, "How Much Can CLIP Benefit Vision-and-Language Tasks?", section on CLIP-ViL_p, and the
    code released with it.
    """

    behaviour: Behaviour = "sane"
    """`published` repeats what the released code does: linear pooler, padding cells attended to, cells drawn outside
    training too, rows 0 of the text tables without gradient. Where the encoder is trained along, the canvas is then
    encoded with its padding, unless `pictures.padding` says otherwise; features from a store always have it."""
    hidden: int = 768
    heads: int = 12
    layers: int = 12
    feed_forward: int = 3072
    dropout: float = 0.1
    text_positions: int = 512
    """Rows of the table of text positions: the longest text there can be."""
    segments: int = 2
    grid_positions: int = 25
    """Rows of each of the two tables of grid positions. A larger grid reads between the rows (published: refused)."""
    keep_cells: int = field(default=0, metadata={"least": 0})
    """Cells drawn for each sentence (published: 100 of 240, in pre-training alone); 0: all."""
    pooler: Pooler = "behaviour"
    """`linear` or `tanh`, or what the behaviour says. Weights trained with the one do not fit the other."""
    normalise: bool = False
    """Layer-normalise cells over their channels first: encoders differ in scale by orders of magnitude."""
    init_std: float = 0.02
    """Spread of weights at the start (BERT's 0.02 fits a hidden size of 768; a small model learns nothing from it)."""
    position_std: float = 0.02
    """Spread of the grid positions at the start (published: 0.02)."""
    checkpointing: bool = False
    """Compute each layer again in the backward pass instead of keeping its activations."""

    @property
    def published(self) -> bool:
        """Whether the behaviour is the published one."""
        return self.behaviour == "published"

    @property
    def pooler_tanh(self) -> bool:
        """Whether the pooled vector goes through tanh, as in BERT; the released code left it out."""
        return not self.published if self.pooler == "behaviour" else self.pooler == "tanh"


PRESETS: Mapping[str, ClipVilPConfig] = {
    "base": ClipVilPConfig(),
    "published": ClipVilPConfig(behaviour="published"),
    "mini": ClipVilPConfig(
        hidden=96,
        heads=4,
        layers=3,
        feed_forward=192,
        dropout=0.0,
        text_positions=32,
        normalise=True,
        init_std=0.1,
        position_std=0.5,
    ),
}


def configure_clip_vil_p(settings: Mapping[str, Any]) -> ClipVilPConfig:
    """The configuration of a recipe's `model` section; see `settings.configuration`.

    Raises RecipeError besides where the heads do not divide the hidden size or a spread is negative.
    """
    config = configuration(PRESETS, settings, model="CLIP-ViL_p", default="base")
    if config.hidden % config.heads:
        raise RecipeError("'model.hidden' must be a multiple of 'model.heads'")
    for name in ("init_std", "position_std"):
        if not 0 <= getattr(config, name) < float("inf"):
            raise RecipeError(f"'model.{name}' must not be negative, not {getattr(config, name)}")
    return config
