"""Tags of a text tied to what stands in their boxes: its piece is given the mean of the cells covered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

THINNEST = 1e-3
"""Sides, as shares of the grid, that boxes have at least: a line covers the cells that it runs through."""


@dataclass
class TiedTags:
    """Which pieces of B sentences are tags, and where the boxes lie.

    rows (B, T) int64: 0, or 1 + the number of the object that the piece names, among those of its group; groups (B,)
    int64, which of the G groups of objects (one a question) each sentence is about; boxes (G, O, 4) float32, the x1,
    y1, x2, y2 of each object as shares of the grid's width and height, any values where a group has fewer objects;
    picture (G,) int64, the picture of each group.
    """

    rows: Tensor
    groups: Tensor
    boxes: Tensor
    picture: Tensor

    def looked_up(self, seen: Tensor, shapes: Tensor) -> Tensor:
        """What is added to the text: (B, T, hidden), zero where no tag is. `seen` (P, N, hidden), `shapes` (P, 2)."""
        weights = covered(self.boxes, shapes[self.picture.to(shapes.device)].to(seen.device), seen.shape[1])
        pooled = weights.to(seen.dtype) @ seen[self.picture]
        pooled = torch.cat([torch.zeros_like(pooled[:, :1]), pooled], dim=1)
        return pooled[self.groups.unsqueeze(1), self.rows]


def covered(boxes: Tensor, shapes: Tensor, cells: int) -> Tensor:
    """How much of boxes (G, O, 4) lies in each cell of grids of shapes (G, 2), flattened row by row and padded to

    `cells`: (G, O, cells) float32, of each box summing to 1, or to 0 where it lies outside of the grid.
    """
    place = torch.arange(cells, device=boxes.device)
    height, width = (shapes[:, side].view(-1, 1, 1) for side in (0, 1))
    row = torch.div(place, width, rounding_mode="floor")
    x = _shared(boxes[..., 0], boxes[..., 2], place % width, width)
    y = _shared(boxes[..., 1], boxes[..., 3], row, height)
    area = x * y * (row < height)
    return area / area.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(area.dtype).tiny)


def _shared(low: Tensor, high: Tensor, index: Tensor, size: Tensor) -> Tensor:
    """Length that the spans low..high (G, O), shares of `size` (G, 1, 1) cells, share with the cells `index`."""
    low = low.unsqueeze(-1) * size
    high = torch.maximum(high.unsqueeze(-1) * size, low + THINNEST * size)
    return (torch.minimum(high, index + 1.0) - torch.maximum(low, index.to(low.dtype))).clamp(min=0)
