"""The text towers of CLIP and SigLIP through transformers, with their own tokenizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import transformers
from torch import Tensor, nn

from clipvil.encoders.module_text import ModuleTextEncoder
from clipvil.encoders.weights import downloading
from clipvil.errors import EncoderError


class _Tower(nn.Module):
    """tokens (B, T) to vectors (B, D) by the model's own `get_text_features`; the visual half is let go."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        del model.vision_model
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        # No attention mask: CLIP is causal, and SigLIP was trained to see its padding.
        out = self.model.get_text_features(input_ids=tokens)
        pooled: Tensor = getattr(out, "pooler_output", out)
        return pooled


def create_text(name: str, model: Any, *, place: str, local: bool) -> ModuleTextEncoder:
    """The text side of a whole two-tower `model` (CLIPModel, SiglipModel), whose tokenizer lies at `place`.

    Raises EncoderError where there is no tokenizer.
    """
    source = place if local else f"huggingface.co/{place}"
    with downloading("the tokenizer", source, name=name):
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(place, local_files_only=local)
    if tokenizer.pad_token_id is None:
        raise EncoderError(f"{name}: the tokenizer in {source} has no padding token; name one in tokenizer_config.json")
    context = int(model.config.text_config.max_position_embeddings)

    def tokenize(texts: Sequence[str], length: int) -> Tensor:
        found = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        tokens: Tensor = found["input_ids"]
        return tokens

    channels = getattr(model.config, "projection_dim", None) or getattr(
        model.config.text_config, "projection_size", model.config.text_config.hidden_size
    )
    return ModuleTextEncoder(
        name,
        _Tower(model),
        tokenize,
        channels=int(channels),
        context_length=context,
        pad=int(tokenizer.pad_token_id),
        causal=model.config.model_type == "clip",
        scale=math.exp(model.logit_scale.float().flatten()[0].item()),
    )
