"""OpenAI's modified ResNet as a grid encoder: the map before attention pooling, and attention pooling on any grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvil.encoders.layers import Layer
from clipvil.encoders.positions import PositionTable


class ClipResNetTower(nn.Module):
    """pixels (B, 3, H, W) to (grid (B, C, H // 32, W // 32), pooled (B, D)).

    Source: Radford et al. 2021 (CLIP), whose ResNets (RN50, RN101, RN50x4, x16, x64) end in an attention pool with one
    position embedding a cell; here it is resampled to the true grid, so that pictures need not be square.
    Layers: `last` (= `stage:4`, the default, what CLIP-ViL reads), `stage:0` (the stem) to `stage:4`.
    """

    def __init__(self, visual: Any, layer: Layer, *, name: str) -> None:
        super().__init__()
        layer.refuse_norm(name)
        self._tap = layer.position(5, kind="stage", name=name)
        self.visual = visual
        self.layer = layer
        width = visual.layer1[0].conv1.in_channels
        self.grid_channels = width * (1, 4, 8, 16, 32)[self._tap]
        self.stride = (4, 4, 8, 16, 32)[self._tap]
        self.pooled_channels = int(visual.output_dim)
        side = int(visual.image_size) // 32
        self._positions = PositionTable((side, side), prefix=1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One pass; a lower tap does not stop it, since the pooled vector comes from the end."""
        stages = (self.visual.stem, self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4)
        x = pixels
        grid = pixels
        for index, stage in enumerate(stages):
            x = stage(x)
            if index == self._tap:
                grid = x
        return grid, self.attention_pool(x)

    def attention_pool(self, x: Tensor) -> Tensor:
        """open_clip's attention pooling (B, C, h, w) -> (B, D), with only the one query whose answer is used.

        The library asks for every cell's answer and drops all but the first; on an 18x31 grid that is most of the work.
        """
        pool = self.visual.attnpool
        height, width = x.shape[-2:]
        tokens = x.flatten(2).permute(2, 0, 1)  # (hw, B, C)
        tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])
        tokens = tokens + self._positions.at(pool.positional_embedding, (height, width))[:, None, :].to(x.dtype)
        pooled, _ = F.multi_head_attention_forward(
            query=tokens[:1],
            key=tokens,
            value=tokens,
            embed_dim_to_check=tokens.shape[-1],
            num_heads=pool.num_heads,
            q_proj_weight=pool.q_proj.weight,
            k_proj_weight=pool.k_proj.weight,
            v_proj_weight=pool.v_proj.weight,
            in_proj_weight=None,
            in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=pool.c_proj.weight,
            out_proj_bias=pool.c_proj.bias,
            use_separate_proj_weight=True,
            training=self.training,
            need_weights=False,
        )
        return pooled[0]
