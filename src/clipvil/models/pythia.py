"""Pythia (Jiang et al. 2018) as CLIP-ViL-Direct runs it: one stream of grid cells, one linear attention.

With the default `PythiaConfig` this is the published network: a one-layer LSTM with an attention of two glimpses reads
the question, the question attends to the cells through an element-wise product of two weight-normed layers, the
attended vector and the question are multiplied once more, and two heads add up their logits. The options of the
configuration are ours, off unless asked for; the preset `mini` turns them on for small data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.errors import RecipeError
from clipvil.models.layers import POSITION_FEATURES, NonLinear, ScalarNormLinear, masked_softmax, position_features
from clipvil.models.pythia_config import PRESETS, PythiaConfig, configure

__all__ = ["PRESETS", "Pythia", "PythiaConfig", "PythiaOutput", "build"]


@dataclass
class PythiaOutput:
    """What the network says, and what it looked at."""

    logits: Tensor
    """(B, answers)"""
    joint: Tensor
    """(B, fusion_size): enters the classifier."""
    image_attention: Tensor
    """(B, N), or (B, N, G) with G > 1 image glimpses: weights over cells, summing to 1."""
    attended_image: Tensor
    """(B, G * C), glimpse after glimpse; C is the size of a cell."""
    question_vector: Tensor
    """(B, question_glimpses * lstm_size), glimpse after glimpse; with `word_mean` that vector behind it."""
    question_states: Tensor
    """(B, T, lstm_size); T is the longest question of the batch where padding is masked."""


class QuestionEncoder(nn.Module):
    """LSTM over word vectors, then glimpses: word-attention-weighted sums of its states."""

    def __init__(self, config: PythiaConfig) -> None:
        super().__init__()
        self.lstm = nn.LSTM(config.word_size, config.lstm_size, batch_first=True)
        self.hidden = nn.Linear(config.lstm_size, config.question_hidden)
        self.glimpses = nn.Linear(config.question_hidden, config.question_glimpses)

    def forward(self, words: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T, word_size), (B, T) or None -> question vector (B, glimpses * lstm_size), states (B, T, lstm_size)."""
        # The LSTM reads from left to right, so padding on the right cannot reach the states of real words.
        states, _ = self.lstm(words)
        scores = self.glimpses(functional.relu(self.hidden(states)))
        weights = masked_softmax(scores, None if mask is None else mask.unsqueeze(2), dim=1)
        return torch.einsum("btg,bth->bgh", weights, states).flatten(1), states


class ImageAttention(nn.Module):
    """Softmax over cells, from the product of a cell's and the question's projections."""

    def __init__(self, channels: int, question: int, config: PythiaConfig) -> None:
        super().__init__()
        self.image = NonLinear(channels, config.attention_size)
        self.question = NonLinear(question, config.attention_size)
        self.score = ScalarNormLinear(config.attention_size, config.image_glimpses)

    def forward(self, cells: Tensor, question: Tensor, mask: Tensor | None) -> tuple[Tensor, None]:
        """(B, N, C), (B, Q), (B, N) or None -> weights (B, N, glimpses); padded cells get 0."""
        joint = self.image(cells) * self.question(question).unsqueeze(1)
        return masked_softmax(self.score(joint), None if mask is None else mask.unsqueeze(2), dim=1), None


class DotAttention(nn.Module):
    """Softmax over cells, each glimpse by a scaled dot product of its own; also says how well the cells matched."""

    def __init__(self, channels: int, question: int, config: PythiaConfig) -> None:
        super().__init__()
        self.glimpses = config.image_glimpses
        self.image = nn.Linear(channels, config.attention_size)
        self.question = nn.Linear(question, config.attention_size)
        self.scale = (config.attention_size / config.image_glimpses) ** -0.5
        # A cell counts as a match above this score; at the start hardly any does.
        self.threshold = nn.Parameter(torch.full((config.image_glimpses,), 2.0))

    def forward(self, cells: Tensor, question: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, N, C), (B, Q), (B, N) or None -> weights (B, N, glimpses) and match strength (B, 2 * glimpses).

        The strength of a glimpse is its largest score, and log(1 + the soft number of matching cells).
        """
        keys = self.image(cells).unflatten(2, (self.glimpses, -1))
        query = self.question(question).unflatten(1, (self.glimpses, -1)).unsqueeze(1)
        scores = (keys * query).sum(3) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(2), torch.finfo(scores.dtype).min)
        matches = torch.sigmoid(scores - self.threshold).sum(1).log1p()
        return scores.softmax(1), torch.cat([scores.amax(1), matches], dim=1)


class Cells(nn.Module):
    """What the options do to the cells before the attention; without options there is no such module."""

    def __init__(self, channels: int, config: PythiaConfig) -> None:
        super().__init__()
        self.size = config.cell_size or channels
        self.normalise = nn.LayerNorm(channels) if config.normalise else None
        self.reduce = nn.Linear(channels, config.cell_size) if config.cell_size else None
        self.positions = nn.Linear(POSITION_FEATURES, self.size, bias=False) if config.cell_positions else None

    def forward(self, cells: Tensor, shapes: Tensor | None, boxes: Tensor | None) -> Tensor:
        """(B, N, C) -> (B, N, size)."""
        if self.normalise is not None:
            cells = self.normalise(cells)
        if self.reduce is not None:
            cells = self.reduce(cells)
        if self.positions is not None:
            if shapes is None:
                raise RecipeError("cell_positions needs the shapes of the grids")
            cells = cells + self.positions(position_features(shapes, cells.shape[1], boxes).to(cells.dtype))
        return functional.relu(cells) if self.reduce is not None else cells


class Head(nn.Module):
    """One of the two classifier heads."""

    def __init__(self, size_in: int, hidden: int, answers: int, dropout: float) -> None:
        super().__init__()
        self.hidden = NonLinear(size_in, hidden, dropout)
        self.out = nn.Linear(hidden, answers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size_in) -> logits (B, answers)."""
        return self.out(self.hidden(x))


class Pythia(nn.Module):
    """The network. `words` rows of the word table, `answers` classes, `channels` of a grid cell."""

    def __init__(
        self,
        config: PythiaConfig,
        *,
        words: int,
        answers: int,
        channels: int,
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(words, config.word_size)
        with torch.no_grad():
            if vectors is not None:
                self.words.weight.copy_(vectors)
            else:
                self.words.weight.mul_(config.word_size**-0.5)
                self.words.weight[0].zero_()
        read = config.question_glimpses * config.lstm_size
        question = read + (config.word_size if config.word_mean else 0)
        self.cells = Cells(channels, config) if _touches_cells(config) else None
        size = config.cell_size or channels
        attended = config.image_glimpses * (size + (2 if config.match_strength else 0))
        self.normalise_question = nn.LayerNorm(read) if config.normalise else nn.Identity()
        self.normalise_words = (
            nn.LayerNorm(config.word_size) if config.normalise and config.word_mean else nn.Identity()
        )
        self.normalise_attended = nn.LayerNorm(size) if config.normalise else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.question = QuestionEncoder(config)
        attention = DotAttention if config.attention == "dot" else ImageAttention
        self.attention: nn.Module = attention(size, question, config)
        self.fuse_image = NonLinear(attended, config.fusion_size)
        self.fuse_question = NonLinear(question, config.fusion_size)
        self.narrow = Head(config.fusion_size, config.narrow_size, answers, config.dropout)
        self.wide = Head(config.fusion_size, config.wide_size, answers, config.dropout)
        with torch.no_grad():
            self.wide.out.bias.add_(config.answer_bias)

    def forward(
        self,
        question: Tensor,
        lengths: Tensor,
        cells: Tensor,
        mask: Tensor | None = None,
        shapes: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> PythiaOutput:
        """Answer questions about pictures.

        `question` (B, T) word rows and `lengths` (B,) real words; `cells` (B, N, C) flattened row by row, `mask` (B, N)
        True where a cell is real (None: all are), `shapes` (B, 2) rows and columns, needed with `cell_positions`;
        `boxes` (B, N, 4) where the cells are regions: their places for `cell_positions`.
        """
        real = None
        if self.config.text_mask == "real":
            question = question[:, : int(lengths.max())]
            real = torch.arange(question.shape[1], device=question.device) < lengths.unsqueeze(1)
        words = self.words(question)
        vector, states = self.question(words, real)
        vector = self.normalise_question(vector)
        if self.config.word_mean:
            vector = torch.cat([vector, self.normalise_words(_mean_word(words, real))], dim=1)
        vector = self.dropout(vector)
        if self.cells is not None:
            cells = self.cells(cells, shapes, boxes)
        weights, strength = self.attention(cells, vector, mask)
        attended = torch.einsum("bng,bnc->bgc", weights, cells)
        seen = self.dropout(self.normalise_attended(attended).flatten(1))
        if self.config.match_strength:
            seen = torch.cat([seen, strength], dim=1)
        joint = self.fuse_image(seen) * self.fuse_question(vector)
        logits = self.narrow(joint) + self.wide(joint)
        return PythiaOutput(logits, joint, weights.squeeze(2), attended.flatten(1), vector, states)


def _mean_word(words: Tensor, real: Tensor | None) -> Tensor:
    if real is None:
        return words.mean(1)
    share = real / real.sum(1, keepdim=True)
    return torch.einsum("bt,btw->bw", share.to(words.dtype), words)


def _touches_cells(config: PythiaConfig) -> bool:
    return config.normalise or config.cell_size > 0 or config.cell_positions


def build(
    settings: Mapping[str, Any], *, words: int, answers: int, channels: int, vectors: Tensor | None = None
) -> Pythia:
    """A fresh Pythia from a recipe's `model` section; see `pythia_config.configure`."""
    config = configure(settings, word_size=None if vectors is None else vectors.shape[1])
    return Pythia(config, words=words, answers=answers, channels=channels, vectors=vectors)
