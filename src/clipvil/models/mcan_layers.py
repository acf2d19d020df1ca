"""The blocks that plain MCAN and MoVie+MCAN share: attention, post-normalised layers, text encoder, pooling.

Sequences are (B, T, size); masks (B, T) are True where a place is real, None where all are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.errors import DataError
from clipvil.models.layers import POSITION_FEATURES, masked_softmax, position_features


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of several heads with separate projections of queries, keys and values."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.out = nn.Linear(size, size)
        # A module, though the fused kernel only wants its number: switched off like any other dropout.
        self.dropout = nn.Dropout(dropout)

    def forward(self, asking: Tensor, asked: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, size), (B, N, size), (B, N) or None -> (B, T, size): `asking` reads from the real places of `asked`.

        Where no place is real all are read alike (an empty question in the published model).
        """
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        if mask is not None:
            empty = ~mask.any(dim=1)
            query = query.masked_fill(empty[:, None, None, None], 0.0)
            mask = (mask | empty[:, None])[:, None, None, :]
        dropout = self.dropout.p if self.dropout.training else 0.0
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.out(read.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear to four times the size, ReLU, dropout, linear back."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.wide = nn.Linear(size, 4 * size)
        self.dropout = nn.Dropout(dropout)
        self.back = nn.Linear(4 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return self.back(self.dropout(functional.relu(self.wide(x))))


class SelfBlock(nn.Module):
    """Self-attention, then the feed-forward layer; each added to what came in and normalised after."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(size, heads, dropout)
        self.norm_attention = nn.LayerNorm(size)
        self.feed = FeedForward(size, dropout)
        self.norm_feed = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, size), (B, T) or None -> (B, T, size)."""
        x = self.norm_attention(x + self.dropout(self.attention(x, x, mask)))
        return self.norm_feed(x + self.dropout(self.feed(x)))


class GuidedBlock(nn.Module):
    """Cells read one another, then the question, then pass the feed-forward layer."""

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(size, heads, dropout)
        self.norm_self = nn.LayerNorm(size)
        self.guided_attention = MultiHeadAttention(size, heads, dropout)
        self.norm_guided = nn.LayerNorm(size)
        self.feed = FeedForward(size, dropout)
        self.norm_feed = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None, text_mask: Tensor | None) -> Tensor:
        """(B, N, size), (B, T, size), (B, N) or None, (B, T) or None -> (B, N, size)."""
        x = self.norm_self(x + self.dropout(self.self_attention(x, x, mask)))
        x = self.norm_guided(x + self.dropout(self.guided_attention(x, text, text_mask)))
        return self.norm_feed(x + self.dropout(self.feed(x)))


class AttentionPool(nn.Module):
    """Glimpses: sums of a sequence, weighted by a softmax over places of a two-layer network's scores."""

    def __init__(self, size: int, hidden: int, glimpses: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(size, hidden)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(hidden, glimpses)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, T, size), (B, T) or None -> glimpses (B, G, size) and their weights (B, T, G)."""
        scores = self.score(self.dropout(functional.relu(self.hidden(x))))
        weights = masked_softmax(scores, None if mask is None else mask.unsqueeze(2), dim=1)
        return torch.einsum("btg,bts->bgs", weights, x), weights


class TextEncoder(nn.Module):
    """Word table, one-layer LSTM, self-attention blocks. Padding (row 0) is masked everywhere."""

    def __init__(
        self, words: int, word_size: int, size: int, heads: int, layers: int, dropout: float, vectors: Tensor | None
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(words, word_size)
        with torch.no_grad():
            if vectors is not None:
                self.words.weight.copy_(vectors)
            else:
                self.words.weight.mul_(word_size**-0.5)
                self.words.weight[0].zero_()
        self.lstm = nn.LSTM(word_size, size, batch_first=True)
        self.blocks = nn.ModuleList(SelfBlock(size, heads, dropout) for _ in range(layers))

    def forward(self, question: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Word rows (B, T) -> states (B, T, size), mask (B, T), and the LSTM's own outputs (B, T, size)."""
        mask = question != 0
        # The LSTM reads from left to right, so padding on the right cannot reach the states of real words.
        read, _ = self.lstm(self.words(question))
        x = read
        for block in self.blocks:
            x = block(x, mask)
        return x, mask, read


class CellTokens(nn.Module):
    """Cells as tokens of the attention: a linear layer, and where the options ask for it what lies where."""

    def __init__(self, channels: int, size: int, positions: bool) -> None:
        super().__init__()
        self.project = nn.Linear(channels, size)
        self.positions = nn.Linear(POSITION_FEATURES, size, bias=False) if positions else None

    def forward(self, cells: Tensor, shapes: Tensor | None, boxes: Tensor | None = None) -> Tensor:
        """(B, N, C), (B, 2) -> (B, N, size). `shapes` is needed for positions alone, `boxes` (B, N, 4) by regions."""
        tokens = self.project(cells)
        if self.positions is not None:
            if shapes is None:
                raise DataError("cell_positions needs the shapes of the grids")
            tokens = tokens + self.positions(position_features(shapes, cells.shape[1], boxes).to(cells.dtype))
        return tokens


def trim(question: Tensor, lengths: Tensor) -> Tensor:
    """Question rows (B, T) without the columns that are padding for the whole batch; masks make them count nothing."""
    return question[:, : max(int(lengths.max()), 1)]
