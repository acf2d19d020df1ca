"""Any timm network as a grid encoder, through timm's own `forward_intermediates` and `forward_head`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from clipvil.encoders.layers import Layer
from clipvil.errors import EncoderError, EncoderNameError


class TimmTower(nn.Module):
    """pixels (B, 3, H, W) to (grid (B, C, h, w), pooled (B, D)).

    Token networks (ViTs): `last` or `block:K`, with `+norm`, and `+norm+proj` where the head is a CLIP projection;
    the grid is the patch tokens. Networks of maps: `last` is the map that gets pooled (after the last 1x1 convolution
    of an EfficientNet, after the final norm of a Swin), `stage:K` the K-th entry of timm's feature list, which for
    ResNets is 0 for the stem and 1 to 4 for `layer1` to `layer4`.

    `projects` tells that the classifier is a CLIP projection, so pooled is its output and not its input; `head` is a
    module that follows the trunk (open_clip's wrapper has one). `size` is the network's own picture size.
    """

    def __init__(
        self,
        trunk: Any,
        layer: Layer,
        *,
        name: str,
        size: tuple[int, int],
        head: nn.Module | None = None,
        projects: bool = False,
    ) -> None:
        super().__init__()
        if not hasattr(trunk, "forward_intermediates"):
            raise EncoderError(f"{name}: this timm network has no grid to read; choose another")
        self.trunk = trunk
        self.head = head if head is not None else nn.Identity()
        self._projects = projects
        self._tokens = is_token_network(trunk)
        if self._tokens and isinstance(getattr(trunk, "norm", None), nn.Identity) and not layer.proj:
            layer = replace(layer, norm=False)  # networks that norm after pooling have none over their tokens
        self.layer = layer
        if not self._tokens:
            layer.refuse_norm(name)
        self._tap = layer.position(len(trunk.feature_info), kind="block" if self._tokens else "stage", name=name)
        self._unit = int(trunk.feature_info[self._tap]["reduction"])
        if layer.proj and not (projects and isinstance(getattr(trunk, "head", None), nn.Linear)):
            raise EncoderNameError(f"{name} has no projection over its tokens; use {str(layer).removesuffix('+proj')}")
        self.grid_channels, self.pooled_channels, self.stride = self._probe(size)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both outputs."""
        if self._tokens:
            # timm refuses sides that are no multiple of the patch; a convolution without padding would floor them.
            height, width = (side - side % self._unit for side in pixels.shape[-2:])
            pixels = pixels[..., :height, :width]
        final, maps = self.trunk.forward_intermediates(
            pixels, indices=[self._tap], **({"norm": self.layer.norm} if self._tokens else {})
        )
        pooled = self.trunk.forward_head(final, pre_logits=not self._projects)
        grid = maps[0]
        if not self._tokens and self.layer.kind == "last" and isinstance(final, Tensor) and final.ndim == 4:
            nhwc = str(getattr(self.trunk, "output_fmt", "NCHW")).endswith("NHWC")
            grid = final.permute(0, 3, 1, 2) if nhwc else final
        if self.layer.proj:
            grid = self.trunk.head(grid.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return grid, self.head(pooled)

    def _probe(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(grid channels, pooled channels, stride), found out with one small empty picture, or one of the own size.

        timm has a hundred families; what each returns is better seen than deduced from its attributes.
        """
        training = self.training
        self.eval()
        for shape in ((4 * self._unit, 4 * self._unit), size):
            try:
                with torch.no_grad():
                    grid, pooled = self(torch.zeros(1, 3, *shape))
                break
            except (AssertionError, RuntimeError, ValueError):
                if shape == size:
                    raise
        self.train(training)
        return int(grid.shape[1]), int(pooled.shape[1]), shape[0] // int(grid.shape[2])


def is_token_network(trunk: Any) -> bool:
    """Whether timm gives patch tokens of blocks (a ViT), and not maps of stages."""
    return "return_prefix_tokens" in inspect.signature(trunk.forward_intermediates).parameters


def make_dynamic(trunk: Any) -> None:
    """Let a timm ViT that was built for one size (as open_clip builds them) take any; others stay as they are."""
    from timm.layers.format import Format
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(trunk, VisionTransformer) and not trunk.dynamic_img_size:
        trunk.dynamic_img_size = True
        trunk.patch_embed.strict_img_size = False
        trunk.patch_embed.flatten = False
        trunk.patch_embed.output_fmt = Format.NHWC
