"""The transformer captioner of CLIP-ViL-Direct: an encoder over grid cells, a decoder over words.

With the default `CaptionerConfig` this is the published network (6 + 6 pre-normalised layers of 512). Row 0 of the word
table is start, end and padding at once; a caption is fed as 0, its words, zeros. The options of the configuration are
ours, off unless asked for; the preset `mini` turns some of them on for small data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.errors import UsageError
from clipvil.models.captioner_config import PRESETS, CaptionerConfig, configure
from clipvil.models.captioner_layers import CellTokens, DecoderBlock, EncoderBlock, KeysValues, WordTokens, norm

__all__ = ["PRESETS", "CaptionerConfig", "DecoderState", "Memory", "TransformerCaptioner", "build"]


@dataclass(frozen=True)
class Memory:
    """Pictures as the decoder reads them."""

    cells: Tensor
    """(B, N, hidden): cells after the encoder. Rows of padding mean nothing."""
    mask: Tensor | None
    """(B, N) bool, True where a cell is real; None: all are."""

    def __len__(self) -> int:
        """Pictures."""
        return self.cells.shape[0]

    def repeat(self, times: int) -> Memory:
        """Every picture `times` times, copies side by side."""
        return self.select(torch.arange(len(self), device=self.cells.device).repeat_interleave(times))

    def select(self, pictures: Tensor) -> Memory:
        """The pictures (P,) int64 in that order."""
        return Memory(self.cells[pictures], None if self.mask is None else self.mask[pictures])


@dataclass
class DecoderState:
    """What a decoder that runs word by word remembers of M = B * r captions, those of a picture side by side.

    `step` advances it in place; `select` and `keep` return another.
    """

    pictures: list[KeysValues]
    """Per layer: of the picture's cells, (B, heads, N, hidden / heads) each, worked out once."""
    mask: Tensor | None
    """(B, 1, 1, N) bool: real cells; None: all."""
    rows: int
    """M: captions."""
    words: list[KeysValues | None]
    """Per layer: of the words so far, (M, heads, length, hidden / heads) each; None before the first."""
    length: int = field(default=0)
    """Words so far, the start counted."""

    def select(self, rows: Tensor) -> DecoderState:
        """The captions `rows` (M',) int64 go on, those of one picture side by side, as many for each picture as before.

        M' may be another multiple of the number of pictures: beams start as one caption a picture.
        """
        return DecoderState(self.pictures, self.mask, rows.shape[0], _taken(self.words, rows), self.length)

    def keep(self, pictures: Tensor) -> DecoderState:
        """The pictures (P,) int64 in that order with all their captions; the others cost nothing from here on."""
        each = self.rows // self.pictures[0][0].shape[0]
        rows = (pictures.unsqueeze(1) * each + torch.arange(each, device=pictures.device)).flatten()
        seen = [(keys[pictures], values[pictures]) for keys, values in self.pictures]
        mask = None if self.mask is None else self.mask[pictures]
        return DecoderState(seen, mask, rows.shape[0], _taken(self.words, rows), self.length)


def _taken(words: list[KeysValues | None], rows: Tensor) -> list[KeysValues | None]:
    return [None if pair is None else (pair[0].index_select(0, rows), pair[1].index_select(0, rows)) for pair in words]


class TransformerCaptioner(nn.Module):
    """The network. `words` rows of the word table, row 0 included, which are also the classes; `channels` of a cell."""

    def __init__(self, config: CaptionerConfig, *, words: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.cells = CellTokens(channels, config)
        self.encoder = nn.ModuleList(EncoderBlock(config) for _ in range(config.encoder_layers))
        self.encoder_norm = norm(config)
        self.words = WordTokens(words, config)
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.decoder_layers))
        self.decoder_norm = norm(config)
        self.output = nn.Linear(config.hidden, words)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        if config.tied:
            self.output.weight = self.words.table.weight

    def encode(
        self, cells: Tensor, mask: Tensor | None = None, shapes: Tensor | None = None, boxes: Tensor | None = None
    ) -> Memory:
        """Read pictures: `cells` (B, N, C), `mask` (B, N) True where a cell is real (None: all are).

        `shapes` (B, 2) rows and columns are needed with `cell_positions`; `boxes` (B, N, 4; shares of the picture)
        where the cells are regions: their places.
        """
        x = self.cells(cells, shapes, boxes)
        for block in self.encoder:
            x = block(x, mask)
        return Memory(self.encoder_norm(x), mask)

    def forward(
        self,
        cells: Tensor,
        captions: Tensor,
        mask: Tensor | None = None,
        shapes: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> Tensor:
        """Teacher forcing: log-probabilities (M, L, V) of the word after each place of `captions` (M, L) int64.

        M is a multiple of the B pictures, the captions of a picture stand side by side, and each begins with 0. The
        encoder runs once a picture, however many captions it has. Raises UsageError where M is no multiple of B.
        """
        return self.decode(self.encode(cells, mask, shapes, boxes), captions)

    def decode(self, memory: Memory, captions: Tensor, *, hide_padding: bool = True) -> Tensor:
        """`forward` from what `encode` returned.

        As published, no place reads a word 0 behind the start; with `hide_padding` False all words before are read, as
        in decoding word by word. The two differ only behind the end of a caption.
        """
        return self._log_probabilities(self._read(memory, captions, _visible(captions) if hide_padding else None))

    def after(self, memory: Memory, captions: Tensor) -> Tensor:
        """Log-probabilities (M, V) of the word after all of `captions` (M, L): what L calls of `step` end with, by one

        pass over all of them.
        """
        return self._log_probabilities(self._read(memory, captions, None)[:, -1])

    def start(self, memory: Memory, rows_per_picture: int = 1) -> DecoderState:
        """Before the first `step`: keys and values of the pictures, worked out once for all captions and words."""
        mask = None if memory.mask is None else memory.mask[:, None, None, :]
        seen = [block.picture.keys_values(memory.cells) for block in self._decoder()]
        return DecoderState(seen, mask, len(memory) * rows_per_picture, [None] * len(seen))

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Log-probabilities (M, V) of the word after `tokens` (M,) int64, the last word of each caption (0 at first).

        `state` then knows them: one word longer.
        """
        x = self.words(tokens.unsqueeze(1), state.length)
        for layer, block in enumerate(self._decoder()):
            x, state.words[layer] = block.step(x, state.words[layer], state.pictures[layer], state.mask)
        state.length += 1
        return self._log_probabilities(x[:, 0])

    def _read(self, memory: Memory, captions: Tensor, visible: Tensor | None) -> Tensor:
        if captions.shape[0] % len(memory):
            raise UsageError(f"{captions.shape[0]} captions are no multiple of {len(memory)} pictures")
        x: Tensor = self.words(captions)
        mask = None if memory.mask is None else memory.mask[:, None, None, :]
        for block in self._decoder():
            x = block(x, block.picture.keys_values(memory.cells), mask, visible)
        return x

    def _log_probabilities(self, x: Tensor) -> Tensor:
        logits = self.output(self.decoder_norm(x))
        # A sum of log-probabilities is what is trained and searched by; half precision is too coarse for it.
        half = logits.dtype in (torch.float16, torch.bfloat16)
        return functional.log_softmax(logits, dim=-1, dtype=torch.float32 if half else None)

    def _decoder(self) -> list[DecoderBlock]:
        return cast(list[DecoderBlock], list(self.decoder))


def _visible(captions: Tensor) -> Tensor:
    """(M, L) -> (M, 1, L, L) bool: place i reads place j."""
    length = captions.shape[1]
    word = captions != 0
    word[:, 0] = True
    causal = torch.ones(length, length, dtype=torch.bool, device=captions.device).tril()
    return (causal & word.unsqueeze(1)).unsqueeze(1)


def build(settings: Mapping[str, Any], *, words: int, channels: int) -> TransformerCaptioner:
    """A fresh captioner from a recipe's `model` section; see `captioner_config.configure`."""
    return TransformerCaptioner(configure(settings), words=words, channels=channels)
