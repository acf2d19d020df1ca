"""CLIP-ViL_p as a model of the task vqa: body and answer head over cells of a feature store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipvil.models.clip_vil_p import ClipVilPModel, ClipVilPOutput
from clipvil.models.clip_vil_p_config import configure_clip_vil_p


class ClipVilPAnswers(ClipVilPModel):
    """A `ClipVilPModel` that is asked as the other models of the task are."""

    def forward(  # type: ignore[override]
        self,
        question: Tensor,
        lengths: Tensor,
        cells: Tensor,
        mask: Tensor | None,
        shapes: Tensor,
        picture: Tensor | None = None,
    ) -> ClipVilPOutput:
        """Answer questions: word pieces (B, T), of which `lengths` (B,) are real, cells (P, N, C), mask (P, N) or None,

        shapes (P, 2), and picture (B,) where questions share pictures. See `ClipVilP.forward`.
        """
        place = torch.arange(question.shape[1], device=question.device)
        return super().forward(question, place < lengths.unsqueeze(1), cells, mask, shapes, picture)


def build(
    settings: Mapping[str, Any], *, words: int, answers: int, channels: int, vectors: Tensor | None = None
) -> ClipVilPAnswers:
    """A fresh model from a recipe's `model` section; `vectors` of whole words have no use here."""
    config = configure_clip_vil_p(settings)
    return ClipVilPAnswers(config, words=words, channels=channels, answers=answers, heads=("answers",))
