"""MoVie+MCAN (winner of the VQA Challenge 2020) as CLIP-ViL-Direct trains it on grids: two branches, three heads.

A one-layer LSTM and self-attention blocks read the question and sum it up in two vectors. In one branch the cells of
the grid attend to each other and to the question's words (MCAN); in the other they pass convolutions that the first
question vector modulates (MoVie). Three classifiers are trained together: on both branches with the second question
vector, on the convolutions alone, and on the attention with the question. Answers come from the first.

The published network pads every grid with zeros to 32 x 32 cells and masks none of them (`padding: published`); by
default the network runs over the cells there are, and its cost falls with their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.models.grids import to_planes, to_square
from clipvil.models.mcan_config import MovieMcanConfig, configure_movie_mcan
from clipvil.models.mcan_layers import AttentionPool, CellTokens, GuidedBlock, TextEncoder, trim
from clipvil.models.movie import MovieBranch

HEADS = 3
"""Classifiers: both branches, convolutions alone, attention alone."""


@dataclass
class MovieMcanOutput:
    """What the network says, and what it is made of."""

    logits: Tensor
    """(B, answers): the first head."""
    supervised: tuple[Tensor, ...]
    """Logits (B, answers) of the heads that are trained: all three in training, the first alone otherwise."""
    joint: Tensor
    """(B, heads, 2 * hidden): what enters the classifiers."""
    question_states: Tensor
    """(B, T, hidden): words after self-attention."""
    question_vectors: Tensor
    """(B, 2, hidden): the first modulates the convolutions, the second joins the branches."""
    attention_vector: Tensor
    """(B, hidden): the attention branch."""
    movie_vector: Tensor
    """(B, movie_size): the convolution branch."""
    image_attention: Tensor
    """(B, N): weights over cells in the attention branch's last sum; N counts padding where it is published."""


class BranchFusion(nn.Module):
    """The three sums that enter the classifiers, each with linear layers and a normalisation of its own."""

    def __init__(self, hidden: int, movie_size: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(2))
        self.movie = nn.ModuleList(nn.Linear(movie_size, 2 * hidden) for _ in range(2))
        self.question = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(2 * hidden) for _ in range(HEADS))

    def forward(self, attention: Tensor, movie: Tensor, question: Tensor, heads: int) -> Tensor:
        """(B, hidden), (B, movie_size), (B, hidden) -> (B, heads, 2 * hidden)."""
        sums = [self.question[0](question) + self.movie[0](movie) + self.attention[0](attention)]
        if heads == HEADS:
            sums += [self.movie[1](movie), self.question[1](question) + self.attention[1](attention)]
        return torch.stack([norm(x) for norm, x in zip(self.norms, sums, strict=False)], dim=1)


class MovieMcan(nn.Module):
    """The network. `words` rows of the word table, `answers` classes, `channels` of a grid cell."""

    def __init__(
        self,
        config: MovieMcanConfig,
        *,
        words: int,
        answers: int,
        channels: int,
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config
        self.text = TextEncoder(words, c.word_size, c.hidden, c.heads, c.text_layers, c.dropout, vectors)
        self.pool_text = AttentionPool(c.hidden, max(c.hidden // 2, 1), 2, c.dropout)
        self.normalise = nn.LayerNorm(channels) if c.normalise else nn.Identity()
        self.tokens = CellTokens(channels, c.hidden, c.cell_positions)
        self.blocks = nn.ModuleList(GuidedBlock(c.hidden, c.heads, c.dropout) for _ in range(c.image_layers))
        self.pool_image = AttentionPool(c.hidden, max(c.hidden // 2, 1), 1, c.dropout)
        self.movie = MovieBranch(channels, c.movie_size, c.hidden, c.movie_layers)
        self.fusion = BranchFusion(c.hidden, c.movie_size if c.movie_layers else channels)
        self.heads = nn.ModuleList(nn.Linear(2 * c.hidden, answers) for _ in range(HEADS))
        with torch.no_grad():
            for head in self.heads:
                head.bias.add_(c.answer_bias)  # type: ignore[operator]

    def forward(
        self,
        question: Tensor,
        lengths: Tensor,
        cells: Tensor,
        mask: Tensor | None = None,
        shapes: Tensor | None = None,
    ) -> MovieMcanOutput:
        """Answer questions about pictures.

        `question` (B, T) word rows, padded with row 0, and `lengths` (B,) real words; `cells` (B, N, C) flattened row
        by row, `mask` (B, N) True where a cell is real (None: all are), `shapes` (B, 2) rows and columns.
        Raises DataError without shapes, or when a grid does not fit into the published square.
        """
        published = self.config.padding == "published"
        states, text_mask, _ = self.text(question if published else trim(question, lengths))
        vectors, _ = self.pool_text(states, text_mask)
        cells = self.normalise(cells)
        if published:
            planes, real = to_square(cells, mask, shapes, self.config.padded_side), None
            cells, mask = planes.flatten(2).transpose(1, 2), None
            shapes = torch.full_like(shapes, self.config.padded_side) if shapes is not None else None
        else:
            planes, real = to_planes(cells if mask is None else cells * mask.unsqueeze(2), mask, shapes)
        tokens = self.tokens(cells, shapes)
        for block in self.blocks:
            tokens = block(tokens, states, mask, text_mask)
        seen, weights = self.pool_image(tokens, mask)
        attention, movie = seen.squeeze(1), self.movie(planes, vectors[:, 0], real)
        joint = self.fusion(attention, movie, vectors[:, 1], HEADS if self.training else 1)
        logits = tuple(head(joint[:, place]) for head, place in zip(self.heads, range(joint.shape[1]), strict=False))
        return MovieMcanOutput(logits[0], logits, joint, states, vectors, attention, movie, weights.squeeze(2))


def build(
    settings: Mapping[str, Any], *, words: int, answers: int, channels: int, vectors: Tensor | None = None
) -> MovieMcan:
    """A fresh MoVie+MCAN from a recipe's `model` section; see `mcan_config.configure_movie_mcan`."""
    config = configure_movie_mcan(settings, word_size=None if vectors is None else vectors.shape[1])
    return MovieMcan(config, words=words, answers=answers, channels=channels, vectors=vectors)
