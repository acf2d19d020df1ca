"""Plain MCAN (deep modular co-attention, encoder and decoder stacked), in its published small and large sizes.

A one-layer LSTM and self-attention blocks read the question; cells attend to each other and to the question's final
words; both sequences are summed up by attention, brought to one size, added and normalised, and one linear layer
answers. Padding of words and of cells is masked, as in the original, which knows it by its zeros.

Differences from the original: cells of a grid instead of detected regions, ordinary layer normalisation (the original
divides by the unbiased standard deviation plus 1e-6), and the start of the weights is PyTorch's own for each layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.models.mcan_config import McanConfig, configure_mcan
from clipvil.models.mcan_layers import AttentionPool, CellTokens, GuidedBlock, TextEncoder, trim


@dataclass
class McanOutput:
    """What the network says, and what it looked at."""

    logits: Tensor
    """(B, answers)"""
    joint: Tensor
    """(B, joint_size): enters the classifier."""
    image_attention: Tensor
    """(B, N): weights over cells in the final sum."""
    image_vector: Tensor
    """(B, joint_size)"""
    question_vector: Tensor
    """(B, joint_size)"""
    question_states: Tensor
    """(B, T, hidden): words after self-attention."""


class Mcan(nn.Module):
    """The network. `words` rows of the word table, `answers` classes, `channels` of a grid cell."""

    def __init__(
        self,
        config: McanConfig,
        *,
        words: int,
        answers: int,
        channels: int,
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config
        self.text = TextEncoder(words, c.word_size, c.hidden, c.heads, c.text_layers, c.dropout, vectors)
        self.normalise = nn.LayerNorm(channels) if c.normalise else nn.Identity()
        self.tokens = CellTokens(channels, c.hidden, c.cell_positions)
        self.blocks = nn.ModuleList(GuidedBlock(c.hidden, c.heads, c.dropout) for _ in range(c.image_layers))
        self.pool_text = AttentionPool(c.hidden, c.pool_hidden, 1, c.dropout)
        self.pool_image = AttentionPool(c.hidden, c.pool_hidden, 1, c.dropout)
        self.merge_text = nn.Linear(c.hidden, c.joint_size)
        self.merge_image = nn.Linear(c.hidden, c.joint_size)
        self.norm = nn.LayerNorm(c.joint_size)
        self.answer = nn.Linear(c.joint_size, answers)
        with torch.no_grad():
            self.answer.bias.add_(c.answer_bias)

    def forward(
        self,
        question: Tensor,
        lengths: Tensor,
        cells: Tensor,
        mask: Tensor | None = None,
        shapes: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> McanOutput:
        """Answer questions about pictures.

        `question` (B, T) word rows, padded with row 0, and `lengths` (B,) real words; `cells` (B, N, C) flattened row
        by row, `mask` (B, N) True where a cell is real (None: all are), `shapes` (B, 2) rows and columns, needed with
        `cell_positions`; `boxes` (B, N, 4; shares of the picture) where the cells are regions: their places.
        """
        states, text_mask, _ = self.text(trim(question, lengths))
        tokens = self.tokens(self.normalise(cells), shapes, boxes)
        for block in self.blocks:
            tokens = block(tokens, states, mask, text_mask)
        read, _ = self.pool_text(states, text_mask)
        seen, weights = self.pool_image(tokens, mask)
        words, image = self.merge_text(read.squeeze(1)), self.merge_image(seen.squeeze(1))
        joint = self.norm(words + image)
        return McanOutput(self.answer(joint), joint, weights.squeeze(2), image, words, states)


def build(
    settings: Mapping[str, Any], *, words: int, answers: int, channels: int, vectors: Tensor | None = None
) -> Mcan:
    """A fresh MCAN from a recipe's `model` section; see `mcan_config.configure_mcan`."""
    config = configure_mcan(settings, word_size=None if vectors is None else vectors.shape[1])
    return Mcan(config, words=words, answers=answers, channels=channels, vectors=vectors)
