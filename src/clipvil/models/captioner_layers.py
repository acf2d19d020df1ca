"""The blocks of the transformer captioner: pre-normalised layers whose decoder can run word by word.

Sequences are (B, T, size); masks are True where a place may be read, None where all may. Captions of one picture stand
together: row i of M caption rows belongs to picture i // (M / B).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.errors import DataError
from clipvil.models.captioner_config import CaptionerConfig
from clipvil.models.layers import POSITION_FEATURES, position_features
from clipvil.models.mcan_layers import MultiHeadAttention

KeysValues = tuple[Tensor, Tensor]
"""Keys and values (B, heads, N, size / heads) of one attention."""

LONGEST = 1024
"""Words of a caption that have a place."""


class UnbiasedNorm(nn.Module):
    """weight * (x - mean) / (deviation + 1e-6) + bias over the last dimension, with the unbiased standard deviation.

    Layer normalisation as the published captioner has it; PyTorch's divides by sqrt(biased variance + 1e-5).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        variance, mean = torch.var_mean(x, dim=-1, correction=1, keepdim=True)
        return torch.addcmul(self.bias, (x - mean) / (variance.sqrt() + 1e-6), self.weight)


def norm(config: CaptionerConfig) -> nn.Module:
    """The normalisation that the configuration asks for."""
    return UnbiasedNorm(config.hidden) if config.norm == "published" else nn.LayerNorm(config.hidden)


class CachedAttention(MultiHeadAttention):
    """Multi-head attention whose keys and values can be worked out once and read many times."""

    def keys_values(self, asked: Tensor) -> KeysValues:
        """(B, N, size) -> what `read` takes."""
        return self._split(self.key(asked)), self._split(self.value(asked))

    def read(self, asking: Tensor, known: KeysValues, mask: Tensor | None, *, causal: bool = False) -> Tensor:
        """(B, T, size) -> (B, T, size); `mask` (B or 1, 1, T or 1, N) bool. `causal` lets place t read 0 to t alone."""
        dropout = self.dropout.p if self.dropout.training else 0.0
        read = functional.scaled_dot_product_attention(
            self._split(self.query(asking)), *known, attn_mask=mask, dropout_p=dropout, is_causal=causal
        )
        return self.out(read.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear to `feed_size`, ReLU, dropout, linear back."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.wide = nn.Linear(config.hidden, config.feed_size)
        self.dropout = nn.Dropout(config.dropout)
        self.back = nn.Linear(config.feed_size, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return self.back(self.dropout(functional.relu(self.wide(x))))


class EncoderBlock(nn.Module):
    """Cells read one another, then pass the feed-forward layer; each normalised before, and added to what came in."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.norm_attention = norm(config)
        self.attention = CachedAttention(config.hidden, config.heads, config.dropout)
        self.norm_feed = norm(config)
        self.feed = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, size), (B, N) or None -> (B, N, size)."""
        y = self.norm_attention(x)
        x = x + self.dropout(self.attention(y, y, mask))
        return x + self.dropout(self.feed(self.norm_feed(x)))


class DecoderBlock(nn.Module):
    """Words read the words before them, then the picture, then pass the feed-forward layer."""

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.norm_attention = norm(config)
        self.attention = CachedAttention(config.hidden, config.heads, config.dropout)
        self.norm_picture = norm(config)
        self.picture = CachedAttention(config.hidden, config.heads, config.dropout)
        self.norm_feed = norm(config)
        self.feed = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, picture: KeysValues, picture_mask: Tensor | None, word_mask: Tensor | None = None
    ) -> Tensor:
        """Whole captions (M, L, size) of B pictures -> (M, L, size).

        `picture` as of `self.picture.keys_values`, `picture_mask` (B, 1, 1, N); `word_mask` (M, 1, L, L), or None: each
        place reads itself and all before it.
        """
        y = self.norm_attention(x)
        known = self.attention.keys_values(y)
        x = x + self.dropout(self.attention.read(y, known, word_mask, causal=word_mask is None))
        return self._look(x, picture, picture_mask)

    def step(
        self, x: Tensor, before: KeysValues | None, picture: KeysValues, picture_mask: Tensor | None
    ) -> tuple[Tensor, KeysValues]:
        """The next word (M, 1, size) behind the words whose keys and values are given; returns theirs with its own."""
        y = self.norm_attention(x)
        keys, values = self.attention.keys_values(y)
        if before is not None:
            keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
        x = x + self.dropout(self.attention.read(y, (keys, values), None))
        return self._look(x, picture, picture_mask), (keys, values)

    def _look(self, x: Tensor, picture: KeysValues, mask: Tensor | None) -> Tensor:
        # The captions of a picture ask as one long sequence, so its keys and values need no copy for each of them.
        pictures, y = picture[0].shape[0], self.norm_picture(x)
        asking = y.reshape(pictures, -1, y.shape[-1])
        x = x + self.dropout(self.picture.read(asking, picture, mask).reshape(x.shape))
        return x + self.dropout(self.feed(self.norm_feed(x)))


class CellTokens(nn.Module):
    """Cells as the encoder takes them: linear layer, ReLU, dropout, and what the options add."""

    def __init__(self, channels: int, config: CaptionerConfig) -> None:
        super().__init__()
        self.normalise = nn.LayerNorm(channels) if config.normalise else nn.Identity()
        self.project = nn.Linear(channels, config.hidden)
        self.dropout = nn.Dropout(config.cell_dropout)
        self.positions = nn.Linear(POSITION_FEATURES, config.hidden, bias=False) if config.cell_positions else None

    def forward(self, cells: Tensor, shapes: Tensor | None, boxes: Tensor | None) -> Tensor:
        """(B, N, C), (B, 2) -> (B, N, size). `shapes` is needed for positions alone, `boxes` (B, N, 4) by regions."""
        tokens = self.dropout(functional.relu(self.project(self.normalise(cells))))
        if self.positions is not None:
            if shapes is None:
                raise DataError("cell_positions needs the shapes of the grids")
            tokens = tokens + self.positions(position_features(shapes, cells.shape[1], boxes).to(tokens.dtype))
        return tokens


class WordTokens(nn.Module):
    """Words as the decoder takes them: rows of a table times sqrt(size), plus sinusoids of their place, dropout."""

    places: Tensor

    def __init__(self, words: int, config: CaptionerConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(words, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        # Not among the weights: anybody can work it out.
        self.register_buffer("places", sinusoids(LONGEST, config.hidden), persistent=False)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """(M, L) int64 at the places from `start` on -> (M, L, size). Raises DataError beyond `LONGEST` words."""
        end = start + tokens.shape[1]
        if end > LONGEST:
            raise DataError(f"a caption of {end} words, more than the {LONGEST} that have a place")
        rows: Tensor = self.table(tokens)
        return self.dropout(rows * math.sqrt(rows.shape[-1]) + self.places[start:end])


def sinusoids(length: int, size: int) -> Tensor:
    """Sines (even columns) and cosines (odd) of place / 10000 ** (column / size): (length, size), size even."""
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
