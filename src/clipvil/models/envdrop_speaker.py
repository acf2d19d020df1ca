"""EnvDrop's speaker: tells a path, for back-translation. Sizes and dropout come from the same configuration.

Encoder: an LSTM in both directions over the features of the chosen candidates, each step's attention over its 36 views,
a second LSTM. Decoder: an LSTM over words from a zero state, attention over the path. Sequences are padded, not packed,
so steps behind a path's end take part in the backward direction, as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.models.envdrop_config import EnvDropConfig, configure
from clipvil.models.envdrop_layers import PAD, Attention, VisualFeatures

States = tuple[Tensor, Tensor]


class Speaker(nn.Module):
    """`visual` is D, the length of a view's features without angles."""

    def __init__(self, words: int, visual: int, config: EnvDropConfig) -> None:
        super().__init__()
        width, half = visual + config.angle_size, config.hidden // 2
        self.config, self.visual = config, visual
        self.features = VisualFeatures(visual, config)
        self.walk = nn.LSTM(width, half, batch_first=True, bidirectional=True)
        self.look = Attention(config.hidden, width, config.hidden)
        self.again = nn.LSTM(config.hidden, half, batch_first=True, bidirectional=True)
        self.words = nn.Embedding(words, config.word_size, padding_idx=PAD)
        self.speak = nn.LSTM(config.word_size, config.hidden, batch_first=True)
        self.recall = Attention(config.hidden, config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, words)
        self.dropout = nn.Dropout(config.dropout)

    def encode(self, views: Tensor, actions: Tensor, noise: Tensor | None = None) -> Tensor:
        """Context (B, T, H) of a path: views (B, T, 36, D + A), chosen candidates (B, T, D + A), zeros at STOP."""
        batch, steps = actions.shape[:2]
        views, actions = self.features(views, noise), self.features(actions, noise)
        walked = self.dropout(self.walk(actions)[0])
        looked, _ = self.look(walked.flatten(0, 1), views.flatten(0, 1))
        return torch.as_tensor(self.dropout(self.again(self.dropout(looked.view(batch, steps, -1)))[0]))

    def decode(self, ids: Tensor, context: Tensor, mask: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Logits (B, L, words) of the word after each of ids (B, L), and the state after the last.

        `mask` (B, T) bool is True behind a path's end; `states` go on from an earlier call.
        """
        hidden, states = self.speak(self.dropout(self.words(ids)), states)
        hidden = self.dropout(hidden)
        batch, length = ids.shape
        rows = context.unsqueeze(1).expand(-1, length, -1, -1).flatten(0, 1)
        behind = mask.unsqueeze(1).expand(-1, length, -1).flatten(0, 1)
        found, _ = self.recall(hidden.flatten(0, 1), rows, behind)
        return self.out(self.dropout(found)).view(batch, length, -1), states

    @torch.no_grad()
    def say(self, context: Tensor, mask: Tensor, *, begin: int, end: int, unknown: int, longest: int) -> Tensor:
        """Greedy words (B, n) int64 after `begin`, `end` included and zeros behind it; `unknown` is never said.

        Stops when all have ended, or at `longest` words, where the last need not be the end.
        """
        ids = torch.full((len(context), 1), begin, dtype=torch.int64, device=context.device)
        ended = torch.zeros(len(context), dtype=torch.bool, device=context.device)
        states: States | None = None
        said: list[Tensor] = []
        while len(said) < longest and not bool(ended.all()):
            logits, states = self.decode(ids, context, mask, states)
            logits[..., unknown] = -torch.inf
            word = logits[:, -1].argmax(1)
            said.append(word.masked_fill(ended, PAD))
            ended = ended | (word == end)
            ids = word.unsqueeze(1)
        return torch.stack(said, 1)


def build(settings: Mapping[str, Any], *, words: int, visual: int) -> Speaker:
    """A fresh speaker from a recipe's `model` section."""
    return Speaker(words, visual, configure(settings))
