"""The project's own resize policies: native aspect, the encoder's square, and a plain warp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipvil.errors import ImageError, UsageError
from clipvil.images.colour import to_rgb
from clipvil.images.policy import Resized, ResizePolicy, require_cell
from clipvil.images.resample import resample

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clipvil.encoders.base import Preprocess

LONG_TO_SHORT = 5 / 3
"""Default ratio of the long limit to the short one: both published settings have it (1000/600 and 640/384)."""

_MOST_COVERING = 2**25  # pixels before the crop of `square`: 224 px wide, and 149,000 long


@dataclass(frozen=True)
class Native(ResizePolicy):
    """Keep the aspect ratio: the short side becomes `short`, unless the long one would pass `long`.

    Smaller pictures are enlarged to the same limits, since an encoder sees objects best near the size it was trained
    at. Both sides are then rounded to the nearest multiple of the stride (at least one cell, at most the multiple
    within `long`), so no pixel falls outside the grid and few shapes arise. Without numbers, `short` is the encoder's
    native short side and `long` is 5/3 of `short`. Nothing is padded or cropped.
    """

    short: int | None = None
    long: int | None = None

    def __post_init__(self) -> None:
        for key, value in (("short", self.short), ("long", self.long)):
            if value is not None and value < 1:
                raise UsageError(f"resize policy native: {key}={value} must be at least 1")
        if self.short is not None and self.long is not None and self.long < self.short:
            raise UsageError(f"resize policy native: long={self.long} is less than short={self.short}")

    @property
    def name(self) -> str:
        """`native`, with those limits that were given."""
        given = [f"{key}={value}" for key, value in (("short", self.short), ("long", self.long)) if value is not None]
        return "native" + (":" + ",".join(given) if given else "")

    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """See `ResizePolicy.apply`."""
        height, width = self.target(image.height, image.width, preprocess, stride)
        pixels = resample(to_rgb(image), (height, width), preprocess.interpolation)
        return Resized(pixels, (image.height, image.width), (0, 0, height, width))

    def target(self, height: int, width: int, preprocess: Preprocess, stride: int) -> tuple[int, int]:
        """The canvas (height, width) for a picture of this size."""
        short = self.short if self.short is not None else min(min(preprocess.size), self.long or min(preprocess.size))
        long = self.long if self.long is not None else round(short * LONG_TO_SHORT)
        if long < stride:
            raise UsageError(f"resize policy {self.name}: long={long} is less than one cell of {stride} pixels")
        scale = min(short / min(height, width), long / max(height, width))
        most = long // stride

        def rounded(side: int) -> int:
            return stride * max(1, min(most, int(side * scale / stride + 0.5)))

        return rounded(height), rounded(width)


@dataclass(frozen=True)
class Square(ResizePolicy):
    """The encoder's own evaluation transform: the short side to the native size, then the central part.

    `size` replaces the native size of the weights by a square. What is cropped away can be read from the box, which is
    then larger than the canvas; use `warp:HxW` or `native` to keep the whole picture.
    """

    size: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise UsageError(f"resize policy square: {self.size} must be at least 1")

    @property
    def name(self) -> str:
        """`square` or `square:S`."""
        return "square" if self.size is None else f"square:{self.size}"

    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """See `ResizePolicy.apply`."""
        rows, columns = preprocess.size if self.size is None else (self.size, self.size)
        require_cell(rows, columns, stride, self.name)
        height, width = self.covering(image.height, image.width, rows, columns)
        if height * width > _MOST_COVERING:
            raise ImageError(
                "too_large",
                f"{image.width}x{image.height} pixels would become {width}x{height} before the crop; use warp:HxW",
            )
        # Rounding half to even, as torchvision's centre crop does.
        top, left = round((height - rows) / 2), round((width - columns) / 2)
        cropped = resample_crop(to_rgb(image), (height, width), (top, left, rows, columns), preprocess)
        return Resized(cropped, (image.height, image.width), (-top, -left, height, width))

    @staticmethod
    def covering(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
        """The smallest (height, width) of this aspect that covers the canvas, the longer side truncated."""
        if height * columns <= width * rows:  # the height is what limits
            return rows, max(columns, int(rows * width / height))
        return max(rows, int(columns * height / width)), columns


@dataclass(frozen=True)
class Warp(ResizePolicy):
    """Stretch to `height` x `width` whatever the aspect; nothing is cropped or padded."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise UsageError(f"resize policy {self.name}: both sides must be at least 1")

    @property
    def name(self) -> str:
        """`warp:HxW`."""
        return f"warp:{self.height}x{self.width}"

    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """See `ResizePolicy.apply`."""
        require_cell(self.height, self.width, stride, self.name)
        pixels = resample(to_rgb(image), (self.height, self.width), preprocess.interpolation)
        return Resized(pixels, (image.height, image.width), (0, 0, self.height, self.width))


def resample_crop(
    image: Image.Image, size: tuple[int, int], window: tuple[int, int, int, int], preprocess: Preprocess
) -> Tensor:
    """Resize to `size` and cut the window (top, left, height, width) out of it."""
    top, left, rows, columns = window
    return resample(image, size, preprocess.interpolation)[:, top : top + rows, left : left + columns].contiguous()
