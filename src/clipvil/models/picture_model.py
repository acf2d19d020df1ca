"""A model of grids together with the encoder that makes them, so that one backward pass trains both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from clipvil.images.canvas import canvas_mask, normalise_canvas, picture_mask
from clipvil.models.grid_trunk import GridTrunk

if TYPE_CHECKING:
    from clipvil.encoders.base import Preprocess

PIXELS = ("pixels", "pixel_sizes", "pixel_boxes", "pixel_rows")
"""What a batch holds in the place of cells, mask and shapes; see `clipvil.training.pixels.PixelBatch`."""


class PictureModel(nn.Module):
    """`trunk` turns pixels into cells, `head` is a model that reads them.

    `visible_padding`: the head sees the cells of what the resize policy added around a picture, as CLIP-ViL_p
    published it; otherwise each picture has the cells of its own rectangle.
    """

    def __init__(
        self, trunk: GridTrunk, head: nn.Module, preprocess: Preprocess, *, visible_padding: bool = False
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.preprocess, self.visible_padding = preprocess, visible_padding

    def encoded(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with cells (P, N, C), shapes (P, 2) and, where shapes differ, mask (P, N) in the place of pixels.

        Each of the P distinct pictures is encoded once; with `pixel_rows` (B,) in the batch they come as the B rows.
        """
        out = {name: tensor for name, tensor in batch.items() if name not in PIXELS}
        pixels, sizes, boxes = (batch[name] for name in PIXELS[:3])
        mask = canvas_mask(pixels, sizes) if self.visible_padding else picture_mask(pixels, boxes)
        cells, real, shapes = self.trunk(normalise_canvas(pixels, sizes, self.preprocess), mask)
        rows = batch.get("pixel_rows")
        found = {"cells": cells.float(), "mask": real, "shapes": shapes}
        for name, tensor in found.items():
            if tensor is not None:
                out[name] = tensor if rows is None else tensor[rows]
        return out
