"""What models read: features by picture, whoever keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from clipvil.encoders.base import EncoderSpec


@dataclass
class GridBatch:
    """Grids of several pictures, cells flattened row by row.

    cells (B, N, C) float32; mask (B, N) bool, True where a cell is real, None when all shapes agree;
    shapes (B, 2) int64 rows and columns of each grid, (N, 1) where cells are regions; pooled (B, D) float32 or None;
    boxes (B, N, 4) float32, the x1, y1, x2, y2 of each region as shares of the picture's width and height, or None.
    """

    cells: Tensor
    mask: Tensor | None
    shapes: Tensor
    pooled: Tensor | None = None
    boxes: Tensor | None = None


class FeatureSource(Protocol):
    """Random access to features by picture id. `Store` is one; so is the constant source of the question-only row."""

    spec: EncoderSpec

    def __contains__(self, image_id: object) -> bool:
        """Whether usable features exist for the picture."""
        ...

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Features of pictures in the order asked; ids may repeat. Raises StoreError naming an absent or failed one."""
        ...


def pooled_of(features: FeatureSource, image_ids: Sequence[str]) -> Tensor | None:
    """Pooled vectors (B, D) float32 alone, in the order asked; None where the source keeps none.

    A source with a method `pooled` is asked for them; others give whole batches, of which the grids are dropped.
    """
    own = getattr(features, "pooled", None)
    found: Tensor | None = own(image_ids) if own is not None else features.batch(image_ids).pooled
    return found


def frames_of(features: FeatureSource, image_ids: Sequence[str]) -> Tensor:
    """Where whole pictures lie on their grids, (B, 4): see `Store.frames`. Sources that do not say show them whole."""
    import torch

    own = getattr(features, "frames", None)
    whole: Tensor = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(image_ids), 1)
    return whole if own is None else own(image_ids)
