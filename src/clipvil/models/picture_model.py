"""A model of grids together with the encoder that makes them, so that one backward pass trains both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clipvil.images.canvas import canvas_mask, normalise_canvas, picture_mask
from clipvil.models.grid_trunk import GridTrunk

if TYPE_CHECKING:
    from clipvil.encoders.base import Preprocess

Padding = Literal["behaviour", "masked", "visible"]
PIXELS = ("pixels", "pixel_sizes", "pixel_boxes", "pixel_rows")
"""What a batch holds in the place of cells, mask and shapes; see `clipvil.training.pixels.PixelBatch`."""

CELLS = ("cells", "mask", "shapes")
"""What stands there after the encoder."""


class PictureModel(nn.Module):
    """`trunk` turns pixels into cells, `head` is a model that reads them.

    `padding`: with `visible` what the resize policy added around a picture is encoded and the head sees its cells, as
    CLIP-ViL_p published it; with `masked` each picture has the cells of its own rectangle. `behaviour` is what the head
    says of itself: `visible` where it has `sees_padding` and that is true, else `masked`.
    """

    def __init__(
        self, trunk: GridTrunk, head: nn.Module, preprocess: Preprocess, *, padding: Padding = "behaviour"
    ) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head
        self.preprocess = preprocess
        published = bool(getattr(head, "sees_padding", False))
        self.visible_padding = published if padding == "behaviour" else padding == "visible"

    def encoded(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with cells (P, N, C), shapes (P, 2) and, where shapes differ, mask (P, N) in the place of pixels.

        Each of the P distinct pictures is encoded once; with `pixel_rows` (B,) in the batch they come as the B rows.
        """
        out = {name: tensor for name, tensor in batch.items() if name not in PIXELS}
        found = dict(zip(CELLS, self.grids(*(batch[name] for name in PIXELS[:3])), strict=True))
        rows = batch.get("pixel_rows")
        for name, tensor in found.items():
            if tensor is not None:
                out[name] = tensor if rows is None else tensor[rows]
        return out

    def grids(
        self, pixels: Tensor, sizes: Tensor | None = None, boxes: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Cells (P, N, C) float32, mask (P, N) or None, and shapes (P, 2) of pixels (P, 3, H, W).

        The pixels are uint8 as a `PixelBatch` has them, or floating and normalised already. `sizes` (P, 2) of each
        canvas and `boxes` (P, 4) of the picture in it: without them the whole of it is canvas, and picture.
        """
        if sizes is None:
            sizes = torch.tensor([pixels.shape[2:]] * len(pixels))
        mask = canvas_mask(pixels, sizes) if self.visible_padding or boxes is None else picture_mask(pixels, boxes)
        ready = pixels if pixels.is_floating_point() else normalise_canvas(pixels, sizes, self.preprocess)
        cells, real, shapes = self.trunk(ready, mask)
        return cells.float(), real, shapes
