"""What follower and speaker of EnvDrop are built of: attention, the instruction encoder, dropout of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from clipvil.models.envdrop_config import EnvDropConfig

PAD = 0


class Attention(nn.Module):
    """Bilinear attention: the score of a value (V numbers) is its product with a linear map of the query (Q numbers).

    With `out` the weighted value and the query give tanh(linear) of `out` numbers; without, the weighted value is what
    comes out.
    """

    def __init__(self, query: int, value: int, out: int | None = None) -> None:
        super().__init__()
        self.query = nn.Linear(query, value, bias=False)
        self.out = None if out is None else nn.Linear(value + query, out, bias=False)

    def scores(self, query: Tensor, values: Tensor) -> Tensor:
        """(B, N) of query (B, Q) and values (B, N, V)."""
        return torch.bmm(values, self.query(query).unsqueeze(2)).squeeze(2)

    def forward(self, query: Tensor, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attended (B, V or out) and weights (B, N); `mask` (B, N) bool is True where there is no value."""
        scores = self.scores(query, values)
        if mask is not None:
            scores = scores.masked_fill(mask, -torch.inf)
        weights = scores.softmax(1)
        found = torch.bmm(weights.unsqueeze(1), values).squeeze(1)
        if self.out is not None:
            found = torch.tanh(self.out(torch.cat([found, query], 1)))
        return found, weights


@dataclass(frozen=True)
class Instruction:
    """An instruction as the decoder reads it: context (B, L, H), mask (B, L) True behind its end, h and c (B, H)."""

    context: Tensor
    mask: Tensor
    h: Tensor
    c: Tensor


class InstructionEncoder(nn.Module):
    """Words through one LSTM layer, in both directions unless told otherwise; row 0 of the word table is padding."""

    def __init__(self, words: int, config: EnvDropConfig) -> None:
        super().__init__()
        ways = 2 if config.bidirectional else 1
        self.config = config
        self.words = nn.Embedding(words, config.word_size, padding_idx=PAD)
        self.lstm = nn.LSTM(
            config.word_size, config.hidden // ways, batch_first=True, bidirectional=config.bidirectional
        )
        self.start = nn.Linear(config.hidden, config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, lengths: Tensor) -> Instruction:
        """ids (B, L) int64, right padded with 0; lengths (B,) int64, at least 1 each."""
        rows = self.dropout(self.words(ids))
        packed = pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, (last, cell) = self.lstm(packed)
        context, _ = pad_packed_sequence(out, batch_first=True)
        mask = torch.arange(context.shape[1], device=ids.device) >= lengths.unsqueeze(1)
        h, c = self._start(context, mask, _joined(last), _joined(cell))
        return Instruction(self.dropout(context), mask, h, c)

    def _start(self, context: Tensor, mask: Tensor, last: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        kind = self.config.start
        if kind == "zero":
            return torch.zeros_like(last), torch.zeros_like(cell)
        if kind == "last":
            return torch.tanh(self.start(last)), cell
        if kind == "max_of_words":
            context = context.masked_fill(mask.unsqueeze(2), -torch.inf)
        return torch.tanh(self.start(context.amax(1))), cell


def _joined(states: Tensor) -> Tensor:
    """(B, H) of the last states (directions, B, .): backwards comes first, as published."""
    return torch.cat(list(states.flip(0)), 1)


class VisualFeatures(nn.Module):
    """Prepares features (..., D + A), D visual numbers and A angle numbers: normalisation, dropout of the D.

    Environmental dropout takes another road: one mask (D,) for all that is seen in a rollout, see `noise`.
    """

    def __init__(self, visual: int, config: EnvDropConfig) -> None:
        super().__init__()
        self.visual = visual
        self.norm = nn.LayerNorm(visual, elementwise_affine=False) if config.normalise else None
        self.dropout = nn.Dropout(config.feature_dropout)

    def forward(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """Of the same shape. `noise` (D,) is multiplied in where it is given, and ordinary dropout is then off."""
        seen, angles = features[..., : self.visual], features[..., self.visual :]
        if self.norm is not None:
            # Unused slots and stopping are zeros, and stay so: their mean and deviation are 0.
            seen = self.norm(seen)
        seen = self.dropout(seen) if noise is None else seen * noise
        return torch.cat([seen, angles], -1)

    def noise(self, like: Tensor, share: float | None = None) -> Tensor:
        """A mask (D,) of environmental dropout: zeros for a share of the numbers, the rest enlarged to make up for it.

        Drawn from torch's global generator.
        """
        share = self.dropout.p if share is None else share
        kept = (torch.rand(self.visual, device=like.device) >= share).to(like.dtype)
        return kept / (1.0 - share)
