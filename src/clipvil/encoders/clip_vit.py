"""CLIP's Vision Transformer of open_clip as a grid encoder, at any height and width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clipvil.encoders.layers import Layer
from clipvil.encoders.positions import PositionTable


class ClipVitTower(nn.Module):
    """pixels (B, 3, H, W) to (grid (B, C, H // patch, W // patch), pooled (B, D)).

    The grid is the patch tokens after the chosen block; pooled is the model's own embedding (for CLIP: the final norm
    and projection of the class token). `last` (the default) is the last block before the final norm, as in CLIP-ViL's
    captioning features and OpenAI-CLIP-Feature; `+norm` adds `ln_post`, `+norm+proj` the projection after it.
    """

    def __init__(self, visual: Any, layer: Layer, *, name: str) -> None:
        super().__init__()
        self._tap = layer.position(len(visual.transformer.resblocks), kind="block", name=name)
        self.visual = visual
        self.layer = layer
        if visual.attn_pool is not None:
            layer.refuse_norm(name)  # there the final norm follows the pooling and has another width
        self.stride = int(visual.patch_size[0])
        width = int(visual.conv1.out_channels)
        self.grid_channels = int(visual.output_dim) if layer.proj else width
        self.pooled_channels = int(visual.output_dim)
        self._positions = PositionTable((int(visual.grid_size[0]), int(visual.grid_size[1])), prefix=1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both outputs."""
        visual = self.visual
        patches = visual.conv1(pixels)  # (B, C, h, w); without padding, so sides are floored
        batch, _, height, width = patches.shape
        x = patches.flatten(2).transpose(1, 2)  # row by row
        first = visual.class_embedding.to(x.dtype).expand(batch, 1, -1)
        x = torch.cat([first, x], dim=1)
        x = x + self._positions.at(visual.positional_embedding, (height, width)).to(x.dtype)
        x = visual.ln_pre(x)
        x, taps = visual.transformer.forward_intermediates(x, indices=[self._tap])
        pooled, _ = visual._pool(x)
        if visual.proj is not None:
            pooled = pooled @ visual.proj
        tokens = taps[0][:, 1:]
        if self.layer.norm:
            tokens = visual.ln_post(tokens)
        if self.layer.proj:
            tokens = tokens @ visual.proj
        return tokens.transpose(1, 2).unflatten(2, (height, width)), pooled
