"""The three heads of CLIP-ViL_p: masked words, whether text and picture belong together, answers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from clipvil.models.clip_vil_p_config import ClipVilPConfig
from clipvil.models.clip_vil_p_layers import EPSILON


class WordHead(nn.Module):
    """Linear, GELU, normalisation, then the word table itself as decoder (tied), plus a bias a word."""

    def __init__(self, config: ClipVilPConfig, words: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=EPSILON)
        self.bias = nn.Parameter(nn.Linear(1, words).bias.detach() * 0)

    def forward(self, states: Tensor, table: Tensor) -> Tensor:
        """States (..., hidden) of text places and the word table (words, hidden) -> logits (..., words)."""
        return functional.linear(self.norm(functional.gelu(self.dense(states))), table, self.bias)


class AnswerHead(nn.Module):
    """Linear to twice the size, GELU, normalisation, linear to the answers."""

    def __init__(self, config: ClipVilPConfig, answers: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.hidden, 2 * config.hidden)
        self.norm = nn.LayerNorm(2 * config.hidden, eps=EPSILON)
        self.out = nn.Linear(2 * config.hidden, answers)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, hidden) -> logits (B, answers)."""
        return self.out(self.norm(functional.gelu(self.hidden(pooled))))


class MatchingHead(nn.Linear):
    """(B, hidden) -> logits (B, 2): class 1 says that text and picture belong together."""

    def __init__(self, config: ClipVilPConfig) -> None:
        super().__init__(config.hidden, 2)
