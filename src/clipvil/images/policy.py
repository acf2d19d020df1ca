"""What every resize policy takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipvil.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clipvil.encoders.base import Preprocess


@dataclass(frozen=True)
class Resized:
    """A canvas ready for an encoder.

    pixels uint8 (3, H, W), planes in RGB order; original_size (height, width) of the upright picture;
    box (top, left, height, width): where the whole resized picture lies on the canvas, in canvas pixels. A positive
    top or left is padding; a negative one says that a policy cropped. So for every policy
    `x_original = (x_canvas - left) * original_width / width`.
    """

    pixels: Tensor
    original_size: tuple[int, int]
    box: tuple[int, int, int, int]

    @property
    def visible(self) -> tuple[int, int, int, int]:
        """The part of the canvas that holds picture, as (top, left, height, width) inside the canvas."""
        top, left, height, width = self.box
        rows, columns = int(self.pixels.shape[1]), int(self.pixels.shape[2])
        first_row, first_column = max(top, 0), max(left, 0)
        return (
            first_row,
            first_column,
            min(top + height, rows) - first_row,
            min(left + width, columns) - first_column,
        )


class ResizePolicy(ABC):
    """A named, picklable rule from a picture of any size and mode to a canvas."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The canonical name, from which `clipvil.images.resize.policy` builds the same policy again."""

    @abstractmethod
    def apply(self, image: Image.Image, preprocess: Preprocess, stride: int) -> Resized:
        """Resize one decoded picture for an encoder with this preprocessing and `stride` pixels a cell.

        Raises UsageError where the canvas would be smaller than one cell.
        """


def require_cell(height: int, width: int, stride: int, name: str) -> None:
    """Refuse a canvas smaller than one cell of the encoder; raises UsageError."""
    if height < stride or width < stride:
        raise UsageError(f"resize policy {name} gives {height}x{width} pixels, less than one cell of {stride}x{stride}")
