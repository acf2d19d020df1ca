"""torchvision classifiers as grid encoders: ResNets, networks with `features`, RegNets and ViTs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clipvil.encoders.layers import Layer
from clipvil.encoders.positions import PositionTable


class StagesTower(nn.Module):
    """A list of stages run one after the other; the grid is one stage's map, pooled the mean of the last.

    `channels_first` is False for networks whose maps are (B, h, w, C), Swin for one. `finish` follows the last stage
    before pooling (a final norm). Layers: `last`, `stage:0` to `stage:n`.
    """

    def __init__(
        self, stages: list[nn.Module], layer: Layer, *, name: str, finish: nn.Module | None, channels_first: bool = True
    ) -> None:
        super().__init__()
        layer.refuse_norm(name)
        self.stages = nn.ModuleList(stages)
        self.finish = finish if finish is not None else nn.Identity()
        self.layer = layer
        self._channels_first = channels_first
        self._tap = layer.position(len(stages), kind="stage", name=name)
        side = 256
        with torch.no_grad():
            training = self.training
            grid, pooled = self.eval()(torch.zeros(1, 3, side, side))
            self.train(training)
        self.grid_channels, self.stride = int(grid.shape[1]), side // int(grid.shape[2])
        self.pooled_channels = int(pooled.shape[1])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both outputs."""
        x = grid = pixels
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index == self._tap:
                # `last` is the very map that gets pooled, the final norm of a hierarchical transformer included.
                grid = self.finish(x) if self.layer.kind == "last" else x
        last = grid if self.layer.kind == "last" else self.finish(x)
        if not self._channels_first:
            grid, last = grid.permute(0, 3, 1, 2), last.permute(0, 3, 1, 2)
        return grid, last.mean(dim=(2, 3))


class TorchvisionVitTower(nn.Module):
    """torchvision's VisionTransformer at any size: patch tokens of a block, pooled = the normed class token."""

    def __init__(self, model: Any, layer: Layer, *, name: str) -> None:
        super().__init__()
        if layer.proj:
            layer.refuse_norm(name)
        model.heads = nn.Identity()
        self.model = model
        self.layer = layer
        self._tap = layer.position(len(model.encoder.layers), kind="block", name=name)
        self.stride = int(model.patch_size)
        self.grid_channels = self.pooled_channels = int(model.hidden_dim)
        side = int(model.image_size) // self.stride
        self._positions = PositionTable((side, side), prefix=1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both outputs."""
        encoder = self.model.encoder
        patches = self.model.conv_proj(pixels)
        batch, _, height, width = patches.shape
        x = torch.cat([self.model.class_token.expand(batch, -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        x = encoder.dropout(x + self._positions.at(encoder.pos_embedding[0], (height, width)))
        tokens = x
        for index, block in enumerate(encoder.layers):
            x = block(x)
            if index == self._tap:
                tokens = x
        final = encoder.ln(x)
        if self.layer.norm:
            tokens = final if self._tap == len(encoder.layers) - 1 else encoder.ln(tokens)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (height, width)), final[:, 0]
