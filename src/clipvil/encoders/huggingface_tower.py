"""Vision models of transformers as grid encoders."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.encoders.layers import Layer
from clipvil.errors import EncoderError, EncoderNameError


class HuggingFaceTower(nn.Module):
    """pixels (B, 3, H, W) to (grid (B, C, h, w), pooled (B, D) or None).

    ViTs (CLIP, SigLIP, DINO, supervised): the grid is the patch tokens of `last` or `block:K`, with `+norm` and, for
    CLIP, `+norm+proj`; class and register tokens are left out. Position embeddings are resampled by transformers' own
    code (bicubic, without the antialiasing of timm and open_clip). Networks of maps (ResNet, ConvNeXt): `last`, or
    `stage:K`, 0 being the stem.

    Pooled is the model's own embedding: CLIP's projection, SigLIP's attention pooling, the normed class token, or the
    mean of the map.
    """

    def __init__(self, model: Any, layer: str | None, *, size: tuple[int, int], name: str) -> None:
        super().__init__()
        self.model = model
        self._takes_any_size = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self._tap = -1
        self._prefix = 0
        with torch.no_grad():  # what a family returns is found out, not declared: one pass over an empty picture
            out = self._run(torch.zeros(1, 3, *size), hidden=True)
        last, states = out.last_hidden_state, out.hidden_states
        self._tokens = last.ndim == 3
        projection = getattr(model, "visual_projection", None)
        self._projection = projection if isinstance(projection, nn.Linear) else None
        self._clip = self._projection is not None
        self.layer = Layer.parse(layer or ("last+norm" if self._tokens and not self._clip else "last"))
        if self._tokens:
            self._set_up_tokens(last, states, size, name)
        else:
            self.layer.refuse_norm(name)
            self._tap = self.layer.position(len(states), kind="stage", name=name)
            self.grid_channels = int(states[self._tap].shape[1])
            self.stride = size[0] // int(states[self._tap].shape[2])
        pooled = self._pooled(out)
        self.pooled_channels = None if pooled is None else int(pooled.shape[-1])

    def _set_up_tokens(self, last: Tensor, states: Any, size: tuple[int, int], name: str) -> None:
        patch = getattr(self.model.config, "patch_size", None)
        self.stride = int(patch[0] if isinstance(patch, (tuple, list)) else patch or 0)
        prefix = last.shape[1] - (size[0] // max(self.stride, 1)) * (size[1] // max(self.stride, 1))
        if not self.stride or prefix < 0 or len({state.shape[1:] for state in states}) != 1:
            raise EncoderError(f"{name}: this family keeps no grid of patch tokens; use its timm/ namesake")
        self._prefix = prefix
        self._tap = self.layer.position(len(states) - 1, kind="block", name=name)
        self.grid_channels = int(last.shape[2])
        if self.layer.norm and self._norm() is None:
            raise EncoderNameError(f"{name} has no final norm; use layer '{str(self.layer).split('+')[0]}'")
        if self.layer.proj:
            if self._projection is None:
                raise EncoderNameError(f"{name} has no projection over its tokens; use {str(self.layer)[:-5]}")
            self.grid_channels = int(self._projection.out_features)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """One pass for both outputs; the states of all blocks are kept only where another than the last is asked."""
        count = int(getattr(self.model.config, "num_hidden_layers", 0))
        final = self._tap == count - 1
        direct = self._tokens and final and self.layer.norm != self._clip
        out = self._run(pixels, hidden=not direct)
        if not self._tokens:
            return out.hidden_states[self._tap], self._pooled(out)
        tokens = out.last_hidden_state if direct else out.hidden_states[self._tap + 1]
        tokens = tokens[:, self._prefix :]
        norm = self._norm()
        if self.layer.norm and not direct and norm is not None:
            tokens = norm(tokens)
        if self.layer.proj and self._projection is not None:
            tokens = self._projection(tokens)
        height, width = (side // self.stride for side in pixels.shape[-2:])
        return tokens.transpose(1, 2).unflatten(2, (height, width)), self._pooled(out)

    def _run(self, pixels: Tensor, *, hidden: bool) -> Any:
        extra = {"interpolate_pos_encoding": True} if self._takes_any_size else {}
        return self.model(pixel_values=pixels, output_hidden_states=hidden, return_dict=True, **extra)

    def _pooled(self, out: Any) -> Tensor | None:
        if self._clip:
            return out.image_embeds
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if pooled is None and self._tokens and self._prefix:
            pooled = out.last_hidden_state[:, 0]
        return None if pooled is None else pooled.flatten(1)

    def _norm(self) -> nn.Module | None:
        vision = getattr(self.model, "vision_model", self.model)
        for name in ("post_layernorm", "layernorm", "norm"):
            norm = getattr(vision, name, None)
            if isinstance(norm, nn.Module):
                return norm
        return None
