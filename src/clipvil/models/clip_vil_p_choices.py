"""CLIP-ViL_p as a model that chooses: every choice is a sequence of its own, and one head gives each a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipvil.models.clip_vil_p import ClipVilPModel, ClipVilPOutput
from clipvil.models.clip_vil_p_config import configure_clip_vil_p
from clipvil.models.tied_tags import TiedTags


class ClipVilPChoices(ClipVilPModel):
    """A `ClipVilPModel` whose answer head has one output: how well a sequence fits the picture."""

    def forward(  # type: ignore[override]
        self,
        question: Tensor,
        length: Tensor,
        cells: Tensor,
        mask: Tensor | None,
        shapes: Tensor,
        picture: Tensor,
        *,
        segments: Tensor,
        tags: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> ClipVilPOutput:
        """Score B questions of S sequences each; the grid of each of P distinct pictures is read in once.

        question (B, S, T) word pieces, of which `length` (B, S) are real; cells (P, N, C), mask (P, N) or None, shapes
        (P, 2); picture (B,) which picture each question is about; segments (B, S, T); tags (B, S, T), 0 or 1 + the
        object that a piece names, with boxes (B, O, 4) of the objects as shares of the grid (None: tags are untied).
        `logits` are (B, S); `sequence` (B * S, T + N, hidden) and `pooled` (B * S, hidden) are question by question.
        """
        count, choices, width = question.shape
        place = torch.arange(width, device=question.device)
        group = torch.arange(count, device=question.device).repeat_interleave(choices)
        tied = None
        if tags is not None and boxes is not None:
            tied = TiedTags(tags.flatten(0, 1), group, boxes, picture)
        out = super().forward(
            question.flatten(0, 1),
            place < length.flatten().unsqueeze(1),
            cells,
            mask,
            shapes,
            picture[group],
            segments=segments.flatten(0, 1),
            tied=tied,
        )
        assert out.answers is not None
        out.answers = out.answers.view(count, choices)
        return out


def build(settings: Mapping[str, Any], *, words: int, channels: int) -> ClipVilPChoices:
    """A fresh model from a recipe's `model` section."""
    config = configure_clip_vil_p(settings)
    return ClipVilPChoices(config, words=words, channels=channels, answers=1, heads=("answers",))
