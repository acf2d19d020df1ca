"""A BERT in the place of the follower's instruction encoder, as CLEAR (arXiv 2207.02185) reads RxR in three languages.

Its last hidden states are the context, and the decoder starts from tanh(linear) of the first of them, that of [CLS],
hidden state and cell alike. Where the BERT is wider or narrower than the decoder, a linear map fits the context (ours:
CLEAR's decoder is as wide as its BERT).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.errors import CheckpointError
from clipvil.models.bert_weights import bert_config, bert_folder, bert_tensors
from clipvil.models.envdrop_config import EnvDropConfig
from clipvil.models.envdrop_layers import Instruction

BERT = "bert."
"""How the names of its parameters begin in `BertInstructionEncoder`."""
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_OTHERS = ("hidden_act", "layer_norm_eps", "hidden_dropout_prob", "attention_probs_dropout_prob")
_UNUSED = ("cls.", "pooler.", "embeddings.position_ids")
"""Of a released BERT: heads of its own training, and a table of numbers."""


def bert_sizes(source: str | Path) -> dict[str, Any]:
    """What must be known of a BERT to build it without its folder, as JSON.

    `source` is a local folder, a repository of the hub or an installed package, as of `bert_weights.load_bert`. Raises
    CheckpointError where it cannot be had or its configuration lacks a size.
    """
    folder = bert_folder(source)
    config = bert_config(folder)
    for name in _SIZES:
        if type(config.get(name)) is not int or config[name] < 1:
            raise CheckpointError(f"{folder / 'config.json'}: {name} must be a whole number, not {config.get(name)!r}")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise CheckpointError(f"{folder / 'config.json'}: num_attention_heads must divide hidden_size")
    return {name: config[name] for name in (*_SIZES, *_OTHERS) if name in config}


class BertInstructionEncoder(nn.Module):
    """Ids (B, L), padded with 0, through a BERT. `sizes` are those of `bert_sizes`.

    Unless `trained` the BERT keeps its weights, drops nothing out, and only what follows it learns.
    """

    def __init__(self, sizes: Mapping[str, Any], config: EnvDropConfig, *, trained: bool) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.trained, width = trained, int(sizes["hidden_size"])
        self.bert = BertModel(BertConfig(**sizes), add_pooling_layer=False)
        self.fit = nn.Identity() if width == config.hidden else nn.Linear(width, config.hidden)
        self.start = nn.Linear(width, config.hidden)
        if not trained:
            self.bert.requires_grad_(False)
            self.bert.eval()

    def train(self, mode: bool = True) -> BertInstructionEncoder:
        """Training mode, which a frozen BERT never takes on: it would drop out at random what it cannot relearn."""
        super().train(mode)
        if not self.trained:
            self.bert.eval()
        return self

    def forward(self, ids: Tensor, lengths: Tensor) -> Instruction:
        """ids (B, L) int64, right padded with 0; lengths (B,) int64, at least 1 each."""
        mask = torch.arange(ids.shape[1], device=ids.device) >= lengths.unsqueeze(1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained):
            rows = self.bert(input_ids=ids, attention_mask=(~mask).long()).last_hidden_state
        h = torch.tanh(self.start(rows[:, 0]))
        return Instruction(self.fit(rows), mask, h, h)

    def load(self, source: str | Path) -> int:
        """Take the weights of a BERT; how many tensors. Nothing changes unless all fit.

        Raises CheckpointError for a source that cannot be had, a tensor that is missing, misshapen or unknown.
        """
        state = bert_tensors(bert_folder(source))
        own = self.bert.state_dict()
        for name, tensor in own.items():
            if name not in state:
                raise CheckpointError(f"{source}: {name} is missing")
            if state[name].shape != tensor.shape:
                raise CheckpointError(f"{source}: {name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
        unknown = [name for name in state if name not in own and not name.startswith(_UNUSED)]
        if unknown:
            raise CheckpointError(f"{source}: holds what a BERT of these sizes has not: {unknown[0]}")
        self.bert.load_state_dict({name: state[name] for name in own})
        return len(own)
