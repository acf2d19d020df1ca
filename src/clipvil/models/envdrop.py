"""The EnvDrop agent (arXiv 1904.04195) as CLIP-ViL uses it: instruction encoder, attentive decoder, critic.

One step of the decoder: the last action's angles; attention of the attended state over the 36 views; an LSTM cell whose
recurrent input is the attended state and not its own output; attention of the cell's output over the words gives the
new attended state, which scores the candidates. The preset `published` is the network of the released code; what it
leaves unused there (two output layers of attentions) is not built. Which of its choices can be had otherwise:
see `EnvDropConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.models.envdrop_config import PRESETS, EnvDropConfig, configure
from clipvil.models.envdrop_layers import Attention, Instruction, InstructionEncoder, VisualFeatures

__all__ = ["PRESETS", "EnvDrop", "EnvDropConfig", "State", "StepOutput", "build"]


@dataclass(frozen=True)
class State:
    """What the decoder remembers: attended state and cell, (B, H) each."""

    attended: Tensor
    cell: Tensor


@dataclass(frozen=True)
class StepOutput:
    """One step of B agents: logits (B, K), unused slots -inf; hidden (B, H), which the critic judges; attentions."""

    logits: Tensor
    hidden: Tensor
    state: State
    views: Tensor
    """(B, 36): attention over the views."""
    words: Tensor
    """(B, L): attention over the words."""


class EnvDrop(nn.Module):
    """The follower. `visual` is D, the length of a view's features without angles."""

    def __init__(self, visual: int, config: EnvDropConfig, encoder: nn.Module) -> None:
        """`encoder` makes an `Instruction` of ids (B, L) and lengths (B,)."""
        super().__init__()
        width = visual + config.angle_size
        self.config, self.visual = config, visual
        self.encoder = encoder
        self.features = VisualFeatures(visual, config)
        self.action = nn.Linear(config.angle_size, config.action_size)
        self.look = Attention(config.hidden, width)
        self.cell = nn.LSTMCell(config.action_size + width, config.hidden)
        self.read = Attention(config.hidden, config.hidden, config.hidden)
        self.choose = Attention(config.hidden, width)
        self.stop = nn.Parameter(torch.zeros(width)) if config.stop == "learned" else None
        if self.stop is not None:
            nn.init.normal_(self.stop, std=0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.critic = nn.Sequential(
            nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, 1)
        )

    def encode(self, ids: Tensor, lengths: Tensor) -> Instruction:
        """Instructions (B, L) int64 padded with 0, of lengths (B,)."""
        instruction: Instruction = self.encoder(ids, lengths)
        return instruction

    def begin(self, instruction: Instruction) -> State:
        """The state before the first step."""
        return State(instruction.h, instruction.c)

    def step(
        self,
        state: State,
        instruction: Instruction,
        action: Tensor,
        views: Tensor,
        candidates: Tensor,
        count: Tensor,
        noise: Tensor | None = None,
    ) -> StepOutput:
        """One decision of B agents.

        action (B, A) angle features of the last action; views (B, 36, D + A); candidates (B, K, D + A), `count` (B,)
        of which are real, stopping included, which is the last real one. `noise` (D,) is environmental dropout.
        """
        embedded = self.dropout(torch.tanh(self.action(action)))
        views, candidates = self.features(views, noise), self.features(candidates, noise)
        slots = torch.arange(candidates.shape[1], device=candidates.device)
        if self.stop is not None:
            last = slots == count.unsqueeze(1) - 1
            candidates = torch.where(last.unsqueeze(2), self.stop.to(candidates.dtype), candidates)
        looked, over_views = self.look(self.dropout(state.attended), views)
        hidden, cell = self.cell(torch.cat([embedded, looked], 1), (state.attended, state.cell))
        attended, over_words = self.read(self.dropout(hidden), instruction.context, instruction.mask)
        logits = self.choose.scores(self.dropout(attended), candidates)
        logits = logits.masked_fill(slots >= count.unsqueeze(1), -torch.inf)
        return StepOutput(logits, hidden, State(attended, cell), over_views, over_words)

    def value(self, hidden: Tensor) -> Tensor:
        """What the critic expects of the rest of the episode: (B,) of hidden (B, H)."""
        found: Tensor = self.critic(hidden).squeeze(1)
        return found


def build(
    settings: Mapping[str, Any],
    *,
    words: int,
    visual: int,
    bert: Mapping[str, Any] | None = None,
    bert_trained: bool = False,
) -> EnvDrop:
    """A fresh follower from a recipe's `model` section for `words` word ids and views of `visual` numbers.

    With the sizes of a BERT (`envdrop_bert.bert_sizes`) that reads the instructions, in the place of an LSTM.
    """
    config = configure(settings)
    if bert is None:
        return EnvDrop(visual, config, InstructionEncoder(words, config))
    from clipvil.models.envdrop_bert import BertInstructionEncoder

    return EnvDrop(visual, config, BertInstructionEncoder(bert, config, trained=bert_trained))
