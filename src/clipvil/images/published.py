"""The resize policies of the published extractors, reproduced to the pixel (facts: the papers' released code)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from clipvil.errors import UsageError
from clipvil.images.colour import to_rgb
from clipvil.images.policy import Resized, ResizePolicy, require_cell
from clipvil.images.resample import as_tensor, resample_exact

if TYPE_CHECKING:
    from clipvil.encoders.base import Preprocess


@dataclass(frozen=True)
class ClipvilVqa(ResizePolicy):
    """CLIP-ViL's grids for VQA: short side 600, long side at most 1000, then a warp to 600x1000, all bilinear.

    Two resamplings, each rounded to 8 bits; portraits are lain down. Bilinear whatever the encoder was trained with.
    """

    @property
    def name(self) -> str:
        """`clipvil-vqa`."""
        return "clipvil-vqa"

    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """See `ResizePolicy.apply`."""
        require_cell(600, 1000, stride, self.name)
        once = resample_exact(to_rgb(image, alpha="drop"), self.first_size(image.height, image.width), "bilinear")
        twice = resample_exact(once, (600, 1000), "bilinear")
        return Resized(as_tensor(twice), (image.height, image.width), (0, 0, 600, 1000))

    @staticmethod
    def first_size(height: int, width: int) -> tuple[int, int]:
        """The (height, width) after the first resize, by detectron2's rule: scale in floats, round half up.

        A side that would round to zero becomes one pixel (the published code crashes there).
        """
        scale = 600 / min(height, width)
        rows, columns = (600.0, scale * width) if height < width else (scale * height, 600.0)
        if max(rows, columns) > 1000:
            shrink = 1000 / max(rows, columns)
            rows, columns = rows * shrink, columns * shrink
        return max(1, int(rows + 0.5)), max(1, int(columns + 0.5))


@dataclass(frozen=True)
class ClipvilCaption(ResizePolicy):
    """CLIP-ViL's grids for captioning: a warp to 448x448, bicubic (the centre crop that follows does nothing)."""

    @property
    def name(self) -> str:
        """`clipvil-caption`."""
        return "clipvil-caption"

    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """See `ResizePolicy.apply`."""
        require_cell(448, 448, stride, self.name)
        canvas = resample_exact(to_rgb(image, alpha="drop"), (448, 448), "bicubic")
        return Resized(as_tensor(canvas), (image.height, image.width), (0, 0, 448, 448))


@dataclass(frozen=True)
class ClipvilPretrain(ResizePolicy):
    """CLIP-ViL_p: aspect kept, short side 384 unless the long one would pass 640, centred on a black canvas.

    Bilinear, before the conversion to RGB: palette pictures are therefore resized by nearest neighbour, and what
    transparency hides comes out. The canvas is portrait where the *resized* picture is not wider than high (squares
    too). An odd pixel of padding goes to the left or top; elongated pictures can pass the canvas by a few pixels and
    are then cropped, as published.
    """

    short: int = 384
    long: int = 640

    def __post_init__(self) -> None:
        if self.short < 1 or self.long < self.short:
            raise UsageError(f"resize policy {self.name}: needs 1 <= short <= long")

    @property
    def name(self) -> str:
        """`clipvil-pretrain`, with the limits where they are not the published ones."""
        return "clipvil-pretrain" + (
            f":short={self.short},long={self.long}" if (self.short, self.long) != (384, 640) else ""
        )

    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """See `ResizePolicy.apply`."""
        require_cell(self.short, self.short, stride, self.name)
        height, width = self.first_size(image.height, image.width)
        rows, columns = (self.long, self.short) if width <= height else (self.short, self.long)
        top, left = _half_up(rows - height), _half_up(columns - width)
        picture = to_rgb(resample_exact(image, (height, width), "bilinear"), alpha="drop")
        canvas = Image.new("RGB", (columns, rows))
        canvas.paste(picture, (left, top))
        return Resized(as_tensor(canvas), (image.height, image.width), (top, left, height, width))

    def first_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) after the resize; a side that would round to zero becomes one pixel."""
        low, high = min(height, width), max(height, width)
        side = self.short
        if high / low * side > self.long:
            side = max(1, round(self.long * low / high))
        return (int(side * height / width), side) if width < height else (side, int(side * width / height))


def _half_up(difference: int) -> int:
    """Half of the padding, the odd pixel in front; negative where the picture passes the canvas."""
    return -(-difference // 2)
