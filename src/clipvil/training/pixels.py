"""Pictures for models that train their encoder: the pixels of a batch's distinct pictures, each decoded once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipvil.errors import StoreError
from clipvil.features.base import GridBatch
from clipvil.images.normalise import normalise
from clipvil.images.policy import Resized
from clipvil.images.sources import ImageItem

if TYPE_CHECKING:
    from clipvil.encoders.base import EncoderSpec, Preprocess


@dataclass
class PixelBatch:
    """The P distinct pictures of a batch, padded at the right and below to the largest; none is ever cropped here.

    pixels (P, 3, H, W) uint8 in RGB, 0 beyond a picture's own canvas; sizes (P, 2) int64, height and width of each
    canvas; boxes (P, 4) int64, the top, left, height and width of the part of the canvas that shows the picture (the
    rest is the resize policy's own padding); rows (B,) int64, which of the P pictures each of the B ids asked is.
    """

    pixels: Tensor
    sizes: Tensor
    boxes: Tensor
    rows: Tensor

    def normalised(self, preprocess: Preprocess) -> Tensor:
        """The pixels as an encoder takes them, see `normalised`."""
        return normalised(self.pixels, self.sizes, preprocess)

    def mask(self) -> Tensor:
        """(P, H, W) bool, True where a pixel shows the picture."""
        height, width = self.pixels.shape[2:]
        down, across = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
        top, left, rows, columns = (side[:, None, None] for side in self.boxes.unbind(dim=1))
        return (down >= top) & (down < top + rows) & (across >= left) & (across < left + columns)


def normalised(pixels: Tensor, sizes: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 pixels (P, 3, H, W) as float32 for an encoder, exactly 0 beyond each canvas, as convolutions pad."""
    out = normalise(pixels, preprocess)
    height, width = out.shape[2:]
    if bool((sizes == sizes.new_tensor([height, width])).all()):
        return out
    down = torch.arange(height, device=out.device)[None, :, None] < sizes[:, 0, None, None]
    across = torch.arange(width, device=out.device)[None, None, :] < sizes[:, 1, None, None]
    return out * (down & across)[:, None]


@dataclass(frozen=True)
class PictureIndex:
    """What is known of pictures before training: which can be used, and how each is resized.

    `shapes` (n, 2) and `boxes` (n, 4) int32 belong to the usable pictures in order; `failures` are rows as in a feature
    store's failures.jsonl. `kept` says how many of the first usable pictures stand resized in the file beside it.
    """

    key: str
    ids: tuple[str, ...]
    shapes: np.ndarray
    boxes: np.ndarray
    failures: tuple[Mapping[str, str], ...]
    kept: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "key": self.key,
            "ids": list(self.ids),
            "shapes": self.shapes.tolist(),
            "boxes": self.boxes.tolist(),
            "failures": [dict(row) for row in self.failures],
            "kept": self.kept,
        }

    @classmethod
    def read(cls, path: Path, key: str) -> PictureIndex | None:
        """The index at a path if it is whole and of this key; else None, and the pictures are looked at again."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            found = cls(
                value["key"],
                tuple(value["ids"]),
                np.asarray(value["shapes"], dtype=np.int32).reshape(-1, 2),
                np.asarray(value["boxes"], dtype=np.int32).reshape(-1, 4),
                tuple(value["failures"]),
                int(value["kept"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        whole = len(found.ids) == len(found.shapes) == len(found.boxes) and 0 <= found.kept <= len(found.ids)
        return found if whole and found.key == key else None

    def ends(self) -> np.ndarray:
        """Where the bytes of each picture end in a file of all of them (int64)."""
        return np.cumsum(3 * self.shapes.astype(np.int64).prod(axis=1))


class PictureSource:
    """Pictures by id, ready for an encoder that is trained along. Made by `clipvil.training.picture_files`.

    In the place of a FeatureSource; what it has are pixels, and asking for features raises StoreError.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        index: PictureIndex,
        items: Mapping[str, ImageItem],
        prepare: Callable[[ImageItem], Resized],
        *,
        resize: str,
        kept: np.ndarray | None = None,
    ) -> None:
        """`kept` are the bytes of the first `index.kept` pictures, as a memory map or in memory."""
        self.spec, self.index, self.resize = spec, index, resize
        self._items, self._prepare, self._kept = items, prepare, kept
        self._rows = {image_id: row for row, image_id in enumerate(index.ids)}
        self._ends = index.ends()
        self.decoded = 0
        """Pictures decoded by this object in this process."""

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Raises StoreError: the model encodes the pictures itself."""
        raise StoreError("features.source is pictures: there are no features, the model encodes the pictures itself")

    def bytes_of(self, image_id: str) -> int:
        """How many bytes a picture takes in a batch."""
        return int(3 * self.index.shapes[self._row(image_id)].astype(np.int64).prod())

    def pixels(self, image_ids: Sequence[str]) -> PixelBatch:
        """The distinct pictures among the ids in order of first use.

        Raises StoreError naming an id that is unknown or cannot be used, ImageError where a picture can no longer be
        read.
        """
        distinct = {image_id: place for place, image_id in enumerate(dict.fromkeys(image_ids))}
        rows = [self._row(image_id) for image_id in distinct]
        shapes, boxes = self.index.shapes[rows], self.index.boxes[rows]
        height, width = (int(side) for side in shapes.max(axis=0))
        pixels = torch.zeros(len(rows), 3, height, width, dtype=torch.uint8)
        for place, row in enumerate(rows):
            own = self._pixels(row)
            pixels[place, :, : own.shape[1], : own.shape[2]] = own
        index = torch.tensor([distinct[image_id] for image_id in image_ids])
        return PixelBatch(pixels, torch.from_numpy(shapes).long(), torch.from_numpy(boxes).long(), index)

    def aspects(self, image_ids: Sequence[str], groups: int) -> np.ndarray:
        """The aspect group of each picture (int64): `groups` by height / width on either side of 1, equal in the

        logarithm between 1/2 and 2, and one beyond each end. Squares lie with portraits. 0: all in one group.
        The shape is that of the canvas, so that pictures of one group can be padded to each other.
        """
        shapes = self.index.shapes[[self._row(image_id) for image_id in image_ids]]
        if not groups:
            return np.zeros(len(shapes), dtype=np.int64)
        edges = 2 ** np.linspace(-1, 1, 2 * groups + 1)
        return np.digitize(shapes[:, 0] / shapes[:, 1], edges)

    def reading_order(self, image_ids: Sequence[str]) -> list[int]:
        """An order of reading (a permutation) in which pictures of one shape, and records of one picture, are near."""
        rows = np.array([self._row(image_id) for image_id in image_ids])
        shapes = self.index.shapes[rows]
        return [int(place) for place in np.lexsort((rows, shapes[:, 1], shapes[:, 0]))]

    def _pixels(self, row: int) -> Tensor:
        height, width = (int(side) for side in self.index.shapes[row])
        if self._kept is not None and row < self.index.kept:
            end = int(self._ends[row])
            flat = np.array(self._kept[end - 3 * height * width : end])
            return torch.from_numpy(flat).view(3, height, width)
        self.decoded += 1
        found = self._prepare(self._items[self.index.ids[row]]).pixels
        if found.shape != (3, height, width):
            raise StoreError(
                f"picture '{self.index.ids[row]}' is {found.shape[1]}x{found.shape[2]} pixels now and was "
                f"{height}x{width} before training: it was changed meanwhile; resume the run to look at all again"
            )
        return found

    def _row(self, image_id: str) -> int:
        row = self._rows.get(image_id)
        if row is None:
            raise StoreError(f"picture '{image_id}' is unknown, or could not be read before training")
        return row
