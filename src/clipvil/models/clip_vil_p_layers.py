"""The parts of CLIP-ViL_p's body: text and grid embeddings, and the post-normalised layers of BERT.

Sequences are (B, T, hidden); masks are True where a place is real.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.errors import DataError
from clipvil.models.clip_vil_p_config import ClipVilPConfig

EPSILON = 1e-12
"""Of every layer normalisation, as in BERT."""


class TextEmbeddings(nn.Module):
    """Word, absolute position and segment, added and normalised."""

    def __init__(self, config: ClipVilPConfig, words: int) -> None:
        super().__init__()
        # Published: row 0 of all three tables is a padding row, so that the place of [CLS] and the only segment there
        # is never learn. Harmless for words, whose row 0 is [PAD].
        padding = 0 if config.published else None
        self.words = nn.Embedding(words, config.hidden, padding_idx=padding)
        self.positions = nn.Embedding(config.text_positions, config.hidden, padding_idx=padding)
        self.segments = nn.Embedding(config.segments, config.hidden, padding_idx=padding)
        self.norm = nn.LayerNorm(config.hidden, eps=EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """Word rows (B, T), and segments (B, T) where they are not all 0 -> (B, T, hidden). Raises DataError."""
        length = tokens.shape[1]
        if length > self.positions.num_embeddings:
            raise DataError(
                f"a text of {length} word pieces, and the model has {self.positions.num_embeddings} text positions",
                fix="lower max_tokens, or raise 'model.text_positions'",
            )
        places = torch.arange(length, device=tokens.device)
        segments = torch.zeros_like(tokens) if segments is None else segments
        x = self.words(tokens) + self.positions(places) + self.segments(segments)
        return self.dropout(self.norm(x))


class GridEmbeddings(nn.Module):
    """Cells with what row and column they lie in, projected and normalised."""

    def __init__(self, config: ClipVilPConfig, channels: int) -> None:
        super().__init__()
        self.strict = config.published
        self.normalise = nn.LayerNorm(channels) if config.normalise else nn.Identity()
        self.rows = nn.Embedding(config.grid_positions, channels)
        self.columns = nn.Embedding(config.grid_positions, channels)
        self.project = nn.Linear(channels, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=EPSILON)

    def place(self, cells: Tensor, shapes: Tensor) -> Tensor:
        """Cells (P, N, C), row by row, with their positions added; shapes (P, 2) rows and columns. Raises DataError."""
        return self.normalise(cells) + self._positions(self.rows.weight, self.columns.weight, cells, shapes)

    def forward(self, cells: Tensor, shapes: Tensor) -> Tensor:
        """(P, N, C), (P, 2) -> (P, N, hidden), without dropout: that is drawn for each sentence."""
        weight = self.project.weight
        # project(place(cells)), but the positions are projected as tables: the grid is never copied at its full depth.
        rows, columns = functional.linear(self.rows.weight, weight), functional.linear(self.columns.weight, weight)
        x = self.project(self.normalise(cells).to(weight.dtype))
        return self.norm(x + self._positions(rows, columns, cells, shapes))

    def _positions(self, rows: Tensor, columns: Tensor, cells: Tensor, shapes: Tensor) -> Tensor:
        """What tables of rows and columns, each (K, size), say of every cell: (P, N, size)."""
        place = torch.arange(cells.shape[1], device=cells.device).unsqueeze(0)
        shapes = shapes.to(cells.device)
        height, width = shapes[:, :1], shapes[:, 1:]
        row = torch.div(place, width, rounding_mode="floor")
        return self._read(rows, row, height) + self._read(columns, place % width, width)

    def _read(self, table: Tensor, index: Tensor, size: Tensor) -> Tensor:
        """Rows (P, N, size) of a table for places `index` (P, N) among `size` (P, 1)."""
        known = len(table)
        index = torch.minimum(index, size - 1)  # padding lies in no row; what it gets is never seen
        if self.strict and bool((size > known).any()):
            raise DataError(
                f"a grid of {int(size.max())} rows or columns, and the published model knows {known}",
                fix="choose a smaller resize policy, or behaviour: sane",
            )
        # A grid that is larger than the table is stretched over it.
        scale = torch.where(
            size > known, (known - 1) / (size - 1).clamp(min=1), torch.ones_like(size, dtype=torch.float)
        )
        exact = index * scale
        low = exact.floor().long().clamp(max=known - 1)
        share = (exact - low).unsqueeze(2).to(table.dtype)
        return torch.lerp(table[low], table[(low + 1).clamp(max=known - 1)], share)


class Block(nn.Module):
    """Self-attention and feed-forward layer with exact GELU; each added to what came in and normalised after."""

    def __init__(self, config: ClipVilPConfig) -> None:
        super().__init__()
        size = config.hidden
        self.heads = config.heads
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.out = nn.Linear(size, size)
        self.norm_attention = nn.LayerNorm(size, eps=EPSILON)
        self.wide = nn.Linear(size, config.feed_forward)
        self.back = nn.Linear(config.feed_forward, size)
        self.norm_feed = nn.LayerNorm(size, eps=EPSILON)
        # One module for the three places: switched off like any other dropout.
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, hidden), (B, 1, 1, T) or None -> (B, T, hidden)."""
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.dropout.training else 0.0
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        x = self.norm_attention(x + self.dropout(self.out(read.transpose(1, 2).flatten(2))))
        return self.norm_feed(x + self.dropout(self.back(functional.gelu(self.wide(x)))))


def initialise(module: nn.Module, config: ClipVilPConfig) -> None:
    """BERT's start of one layer: N(0, `init_std`), biases 0, normalisation the identity; for `module.apply`.

    Applied to body and heads alone. The released code ran it over the encoder too, which destroys ViTs.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=config.init_std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, GridEmbeddings):
        for table in (module.rows, module.columns):
            nn.init.normal_(table.weight, std=config.position_std)
