"""Pictures of several sizes on one canvas: which pixels are whose, and normalised pixels with nothing around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipvil.images.normalise import normalise

if TYPE_CHECKING:
    from clipvil.encoders.base import Preprocess


def picture_mask(pixels: Tensor, boxes: Tensor) -> Tensor:
    """(P, H, W) bool for pixels (P, 3, H, W): True inside each box (P, 4) of top, left, height and width."""
    down = torch.arange(pixels.shape[2], device=pixels.device)[None, :, None]
    across = torch.arange(pixels.shape[3], device=pixels.device)[None, None, :]
    top, left, rows, columns = (side[:, None, None] for side in boxes.unbind(dim=1))
    return (down >= top) & (down < top + rows) & (across >= left) & (across < left + columns)


def canvas_mask(pixels: Tensor, sizes: Tensor) -> Tensor:
    """(P, H, W) bool for pixels (P, 3, H, W): True inside each canvas, sizes (P, 2) of height and width."""
    return picture_mask(pixels, torch.cat([torch.zeros_like(sizes), sizes], dim=1))


def normalise_canvas(pixels: Tensor, sizes: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 pixels (P, 3, H, W) as float32 for an encoder, exactly 0 beyond each canvas, as convolutions pad."""
    out = normalise(pixels, preprocess)
    if bool((sizes == sizes.new_tensor(out.shape[2:])).all()):
        return out
    return out * canvas_mask(pixels, sizes)[:, None]
