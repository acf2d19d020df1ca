"""Cells in rows back to planes, for convolutions: batches of one shape without a copy, mixed ones with a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from clipvil.errors import DataError


def to_planes(cells: Tensor, mask: Tensor | None, shapes: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Cells (B, N, C) with mask (B, N) or None and shapes (B, 2) as planes (B, C, h, w), zero where no cell is.

    h and w are the largest of the batch. The second value is 1.0 at real cells, (B, 1, h, w), or None when all are.
    Raises DataError when the shapes are not given.
    """
    if shapes is None:
        raise DataError("a model with convolutions needs the shapes of the grids")
    if mask is None and bool((shapes == shapes[0]).all()):
        return cells.transpose(1, 2).unflatten(2, _sides(shapes[0])), None
    height, width = _sides(shapes.amax(dim=0))
    planes, real = _scattered(cells, mask, shapes, height, width)
    return planes, real


def to_square(cells: Tensor, mask: Tensor | None, shapes: Tensor | None, side: int) -> Tensor:
    """The same as planes (B, C, side, side), zeros on the right and below, as MMF's reader pads.

    Raises DataError when the shapes are not given or a grid is larger than the square.
    """
    if shapes is None:
        raise DataError("padding: published needs the shapes of the grids")
    height, width = _sides(shapes.amax(dim=0))
    if max(height, width) > side:
        raise DataError(
            f"a grid of {height} x {width} cells does not fit into the published {side} x {side}",
            fix="choose padding: masked, or a resize policy with smaller grids",
        )
    return _scattered(cells, mask, shapes, side, side)[0]


def _scattered(cells: Tensor, mask: Tensor | None, shapes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    batch, count, channels = cells.shape
    place = torch.arange(count, device=cells.device).unsqueeze(0)
    rows, columns = shapes[:, :1], shapes[:, 1:]
    target = torch.div(place, columns, rounding_mode="floor") * width + place % columns
    real = place < rows * columns if mask is None else mask
    # What is padding goes to one place behind the plane, which is cut off.
    target = torch.where(real, target, height * width)
    planes = cells.new_zeros(batch, height * width + 1, channels)
    planes = planes.scatter(1, target.unsqueeze(2).expand_as(cells), cells)[:, :-1]
    known = cells.new_zeros(batch, height * width + 1).scatter(1, target, 1.0)[:, :-1]
    return planes.transpose(1, 2).unflatten(2, (height, width)), known.unflatten(1, (1, height, width))


def _sides(shape: Tensor) -> tuple[int, int]:
    rows, columns = shape.tolist()
    return int(rows), int(columns)
