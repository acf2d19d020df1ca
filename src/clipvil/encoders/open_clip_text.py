"""The text towers of open_clip's models: the library's own network and tokenizer, in the weights of the visual side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from clipvil.encoders.module_text import ModuleTextEncoder
from clipvil.encoders.weights import downloading, load_strict, read_state_dict, untrained
from clipvil.errors import EncoderError

_PARTS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "cls_emb")
"""Where a model that keeps its text tower in itself (and not in `text.`) has it."""
_UNLEARNED_SCALE = 1 / 0.07


class _Tower(nn.Module):
    """tokens (B, T) to vectors (B, D); T may be shorter than the context where the tower is causal."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower
        mask = getattr(tower, "attn_mask", None)
        pool = getattr(tower, "pool_type", "")
        self.causal = mask is not None and getattr(tower, "cls_emb", None) is None and pool in ("argmax", "eos")

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        if self.causal and length < self.tower.attn_mask.shape[0]:
            # The library adds its mask whole, whatever the length of the text.
            shorter = {"attn_mask": self.tower.attn_mask[:length, :length]}
            out = torch.func.functional_call(self.tower, shorter, (tokens,))
        else:
            out = self.tower(tokens)
        pooled: Tensor = out[0] if isinstance(out, tuple) else out
        return pooled

    def states(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, T) to vectors (B, D) and the state at each token in the joint space (B, T, D).

        A tower that pools before its norm (CoCa) gives the normed states of all its tokens.
        """
        seen: list[Tensor] = []
        tower = self.tower
        normed = getattr(tower, "cls_emb", None) is None
        part = tower.ln_final if normed else tower.transformer
        with part.register_forward_hook(lambda _, __, output: seen.append(output)):
            pooled = self.forward(tokens)
        states = seen[0][:, : tokens.shape[1]] if normed else tower.ln_final(seen[0][:, : tokens.shape[1]])
        projection = getattr(tower, "text_projection", None)
        if isinstance(projection, nn.Module):
            states = projection(states)
        elif projection is not None:
            states = states @ projection
        return pooled, states


def create_text(
    name: str, *, architecture: str, model: Mapping[str, Any], weights: Path | None, quickgelu: bool
) -> ModuleTextEncoder:
    """The text side of `open_clip/…`: `architecture` as open_clip names it, `model` its configuration.

    `weights` None builds it untrained. The tokenizer of a folder is read from that folder.
    Raises EncoderError where the weights hold no text tower, or what it needs is not on this machine.
    """
    settings = dict(model.get("text_cfg") or {})
    local = architecture.startswith("local-dir:")
    if not settings:
        raise EncoderError(f"{name}: its configuration has no 'text_cfg', so there is no text side")
    if settings.get("hf_model_name") and local:
        raise EncoderError(
            f"{name}: the text tower is {settings['hf_model_name']} of transformers, which the folder does not "
            "describe; use the model's own name or hf-hub:"
        )
    tokenizer, pad = _tokenizer(name, architecture)
    tower, scale = _build(name, int(model["embed_dim"]), settings, weights, quickgelu)

    def tokenize(texts: Sequence[str], length: int) -> Tensor:
        tokens: Tensor = tokenizer(list(texts), context_length=length)
        return tokens

    return ModuleTextEncoder(
        name,
        tower,
        tokenize,
        channels=int(model["embed_dim"]),
        context_length=int(tokenizer.context_length),
        pad=pad,
        causal=tower.causal,
        scale=scale,
        facts={"quickgelu": str(quickgelu)},
    )


def _tokenizer(name: str, architecture: str) -> tuple[Any, int]:
    """open_clip's tokenizer of the model, and the token it pads with."""
    folder = architecture.partition(":")[2]
    try:
        if architecture.startswith("local-dir:"):
            tokenizer = open_clip.get_tokenizer(architecture)
        else:
            with downloading("the tokenizer", "the hub", name=name):
                tokenizer = open_clip.get_tokenizer(architecture)
    except EncoderError:
        raise
    except Exception as problem:
        reason = next(iter(str(problem).splitlines()), type(problem).__name__)[:160]
        raise EncoderError(f"{name}: no tokenizer can be read from {folder} ({reason})") from problem
    inner = getattr(tokenizer, "tokenizer", None)
    pad = getattr(inner, "pad_token_id", None)
    if inner is not None and pad is None:
        raise EncoderError(f"{name}: its tokenizer has no padding token; name one in tokenizer_config.json")
    return tokenizer, int(pad or 0)


def _build(
    name: str, channels: int, settings: Mapping[str, Any], weights: Path | None, quickgelu: bool
) -> tuple[_Tower, float]:
    def build() -> _Tower:
        wanted = {**settings, "hf_model_pretrained": False}  # their weights are part of the CLIP weights
        if not settings.get("hf_model_name"):
            return _Tower(open_clip.model._build_text_tower(channels, wanted, quickgelu))
        with downloading(f"the configuration of {settings['hf_model_name']}", "huggingface.co", name=name):
            return _Tower(open_clip.model._build_text_tower(channels, wanted, quickgelu))

    if weights is None:
        with untrained(name):
            return build(), _UNLEARNED_SCALE
    state = read_state_dict(weights, name=name)
    own = {key.removeprefix("text."): value for key, value in state.items() if key.startswith("text.")}
    own = own or {key: value for key, value in state.items() if key.startswith(_PARTS)}
    if not own:
        raise EncoderError(f"{name}: {weights} holds a visual tower alone; use weights of the whole model")
    tower = build()
    # A mask that older checkpoints stored; the network makes it by itself.
    own.pop("attn_mask", None)
    load_strict(tower.tower, own, name=name, where=weights)
    learned = state.get("logit_scale")
    return tower, math.exp(learned.float().flatten()[0].item()) if learned is not None else _UNLEARNED_SCALE
