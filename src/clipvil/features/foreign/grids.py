"""Arrays as they are stored, brought to grids (h, w, C)."""

from __future__ import annotations

import math

from torch import Tensor

from clipvil.errors import FeatureError
from clipvil.features.foreign.base import ForeignRecord, Layout


def as_record(array: Tensor, layout: Layout, channels: int | None, where: str) -> ForeignRecord:
    """A grid (1, h, w, C) or (h, w, C), or with `chw` their channels first; or regions (N, C) in either layout.

    Raises FeatureError where the axes do not fit, and where those of the other layout evidently would.
    """
    given = tuple(array.shape)
    if array.ndim == 4 and given[0] == 1:
        array = array[0]
    if array.ndim == 2:
        regions = array.unsqueeze(1)
        _check_channels(regions, given, None, channels, where)
        return ForeignRecord(regions, cells="regions")
    if array.ndim != 3:
        wanted = "(1, H, W, C) or (H, W, C)" if layout == "hwc" else "(1, C, H, W) or (C, H, W)"
        raise FeatureError("misshapen", f"{where}: an array of shape {given}, expected {wanted}, or regions (N, C)")
    grid = array if layout == "hwc" else array.permute(1, 2, 0)
    _check_channels(grid, given, layout, channels, where)
    return ForeignRecord(grid.contiguous())


def _check_channels(
    grid: Tensor, given: tuple[int, ...], layout: Layout | None, channels: int | None, where: str
) -> None:
    found = int(grid.shape[2])
    if channels is not None:
        if found == channels:
            return
        other = "chw" if layout == "hwc" else "hwc"
        place = given[-3] if layout == "hwc" else given[-1]
        hint = f"; it fits --layout {other}" if layout and place == channels else ""
        raise FeatureError("misshapen", f"{where}: shape {given} gives {found} channels, {channels} asked{hint}")
    # A real grid has far fewer rows and columns than channels; the wrong layout turns that round.
    if layout and found < max(grid.shape[:2]):
        other = "chw" if layout == "hwc" else "hwc"
        raise FeatureError(
            "misshapen",
            f"{where}: shape {given} read as {layout} gives {grid.shape[0]} x {grid.shape[1]} cells with only {found} "
            f"channels; use --layout {other}, or --channels {found} if that is right",
        )


def unflatten(rows: Tensor, grid: tuple[int, int] | None, channels: int | None, where: str) -> Tensor:
    """Rows (N, C) of a grid flattened row by row, as (h, w, C); square where `grid` does not say."""
    if rows.ndim != 2:
        raise FeatureError("misshapen", f"{where}: an array of shape {tuple(rows.shape)}, expected (cells, channels)")
    count, found = int(rows.shape[0]), int(rows.shape[1])
    if channels is not None and found != channels:
        raise FeatureError("misshapen", f"{where}: {found} channels, {channels} asked")
    side = math.isqrt(count)
    height, width = grid or (side, side)
    if height * width != count:
        asked = f"--grid {height}x{width} says {height * width}" if grid else "no square: say which with --grid HxW"
        raise FeatureError("misshapen", f"{where}: {count} cells; {asked}")
    return rows.reshape(height, width, found)
