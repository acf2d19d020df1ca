"""Any timm network as a grid encoder, through timm's own `forward_intermediates` and `forward_head`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from clipvil.encoders.layers import Layer
from clipvil.errors import EncoderError


class TimmTower(nn.Module):
    """pixels (B, 3, H, W) to (grid (B, C, h, w), pooled (B, D)).

    Token networks (ViTs): `last` or `block:K`, with `+norm`, and `+norm+proj` where the head is a CLIP projection;
    the grid is the patch tokens. Networks of maps: `last` is the final map before pooling (with the last 1x1
    convolution where there is one, as in EfficientNet), `stage:K` the K-th entry of timm's feature list, which for
    ResNets is 0 for the stem and 1 to 4 for `layer1` to `layer4`.

    `projects` tells that the classifier is a CLIP projection, so pooled is its output and not its input; `head` is a
    module that follows the trunk (open_clip's wrapper has one).
    """

    def __init__(
        self, trunk: Any, layer: Layer, *, name: str, head: nn.Module | None = None, projects: bool = False
    ) -> None:
        super().__init__()
        if not hasattr(trunk, "forward_intermediates"):
            raise EncoderError(f"{name}: this timm network has no grid to read; choose another")
        self.trunk = trunk
        self.head = head if head is not None else nn.Identity()
        self._projects = projects
        self._tokens = "return_prefix_tokens" in inspect.signature(trunk.forward_intermediates).parameters
        if self._tokens and isinstance(getattr(trunk, "norm", None), nn.Identity):
            layer = replace(layer, norm=False) if not layer.proj else layer
        self.layer = layer
        if self._tokens:
            self._tap = layer.position(len(trunk.feature_info), kind="block", name=name)
        else:
            layer.refuse_norm(name)
            self._tap = layer.position(len(trunk.feature_info), kind="stage", name=name)
        tap = trunk.feature_info[self._tap]
        self.stride = int(tap["reduction"])
        self.grid_channels = int(tap["num_chs"])
        # Where a last convolution widens the final map, that map (and not the narrower one before) is what is pooled.
        self._final_map = not self._tokens and layer.kind == "last" and int(trunk.num_features) != self.grid_channels
        if self._final_map:
            self.grid_channels = int(trunk.num_features)
        if layer.proj:
            if not (projects and isinstance(getattr(trunk, "head", None), nn.Linear)):
                raise EncoderError(f"{name} has no projection over its tokens; use {str(layer).removesuffix('+proj')}")
            self.grid_channels = int(trunk.head.out_features)
        self.pooled_channels = _pooled_channels(trunk, self.head, projects=projects)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both outputs."""
        if self._tokens:
            # timm refuses sides that are no multiple of the patch; a convolution without padding would floor them.
            height, width = (side - side % self.stride for side in pixels.shape[-2:])
            pixels = pixels[..., :height, :width]
        final, maps = self.trunk.forward_intermediates(
            pixels, indices=[self._tap], **({"norm": self.layer.norm} if self._tokens else {})
        )
        pooled = self.trunk.forward_head(final, pre_logits=not self._projects)
        grid = maps[0]
        if self._final_map:
            nhwc = str(getattr(self.trunk, "output_fmt", "NCHW")).endswith("NHWC")
            grid = final.permute(0, 3, 1, 2) if nhwc else final
        if self.layer.proj:
            grid = self.trunk.head(grid.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return grid, self.head(pooled)


def make_dynamic(trunk: Any) -> None:
    """Let a timm ViT that was built for one size (as open_clip builds them) take any; others stay as they are."""
    from timm.layers.format import Format
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(trunk, VisionTransformer) and not trunk.dynamic_img_size:
        trunk.dynamic_img_size = True
        trunk.patch_embed.strict_img_size = False
        trunk.patch_embed.flatten = False
        trunk.patch_embed.output_fmt = Format.NHWC


def _pooled_channels(trunk: Any, head: nn.Module, *, projects: bool) -> int:
    for part in reversed(list(head.modules())):
        if isinstance(part, nn.Linear):
            return int(part.out_features)
    if projects and int(trunk.num_classes) > 0:
        return int(trunk.num_classes)
    return int(getattr(trunk, "head_hidden_size", None) or trunk.num_features)
