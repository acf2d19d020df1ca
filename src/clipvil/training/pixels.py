"""Pictures for models that train their encoder: the pixels of a batch's distinct pictures, each decoded once."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipvil.errors import StoreError
from clipvil.features.base import GridBatch
from clipvil.images.canvas import normalise_canvas, picture_mask
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
        """The pixels as an encoder takes them, float32, exactly 0 beyond each canvas."""
        return normalise_canvas(self.pixels, self.sizes, preprocess)

    def mask(self) -> Tensor:
        """(P, H, W) bool, True where a pixel shows the picture."""
        return picture_mask(self.pixels, self.boxes)


@dataclass(frozen=True)
class PictureIndex:
    """What is known of pictures before training: which can be used, and how each is resized.

    `shapes` (n, 2) and `boxes` (n, 4) int32 belong to the usable pictures in order; `stamps` say of every picture, also
    those that failed, which file it was; `failures` map those to the reason. `kept` says how many of the first usable
    pictures are kept resized on disk, and `sums` (kept,) uint32 is the CRC-32 of each. `key` stands for how they were
    resized.
    """

    key: str
    ids: tuple[str, ...]
    shapes: np.ndarray
    boxes: np.ndarray
    stamps: Mapping[str, str]
    failures: Mapping[str, str]
    kept: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))

    def to_json(self) -> dict[str, Any]:
        """Plain values, and a checksum over them."""
        arrays = {name: getattr(self, name).tolist() for name in ("shapes", "boxes", "sums")}
        values = {**vars(self), "ids": list(self.ids), **arrays}
        return {**values, "checksum": _checksum(values)}

    @classmethod
    def read(cls, path: Path) -> PictureIndex | None:
        """The index at a path if it is there and whole, else None."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            sound = value.pop("checksum") == _checksum(value)
            value["ids"] = tuple(value["ids"])
            value["shapes"] = np.asarray(value["shapes"], dtype=np.int32).reshape(-1, 2)
            value["boxes"] = np.asarray(value["boxes"], dtype=np.int32).reshape(-1, 4)
            value["sums"] = np.asarray(value["sums"], dtype=np.uint32)
            found = cls(**value)
            whole = len(found.ids) == len(found.shapes) == len(found.boxes) >= found.kept == len(found.sums)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return None
        return found if whole and sound else None

    def only(self, wanted: Container[str]) -> PictureIndex:
        """The same without other pictures; none of them kept."""
        rows = [row for row, image_id in enumerate(self.ids) if image_id in wanted]
        ids = tuple(self.ids[row] for row in rows)
        return replace(self, ids=ids, shapes=self.shapes[rows], boxes=self.boxes[rows]).unkept()

    def unkept(self) -> PictureIndex:
        """The same with none of the pictures kept."""
        return replace(self, kept=0, sums=np.zeros(0, dtype=np.uint32))

    def ends(self) -> np.ndarray:
        """Where the bytes of each picture end in a file of all of them (int64)."""
        return np.cumsum(3 * self.shapes.astype(np.int64).prod(axis=1))


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


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
        file: Path | None = None,
    ) -> None:
        """`kept` are the bytes of the first `index.kept` pictures, in memory or as a memory map of `file`.

        What comes from a file is held against the checksum in the index each time.
        """
        self.spec, self.index, self.resize = spec, index, resize
        self._items, self._prepare, self._kept, self._file = items, prepare, kept, file
        self._rows = {image_id: row for row, image_id in enumerate(index.ids)}
        self._ends = index.ends()
        self.decoded = 0
        """Pictures decoded by this object in this process."""
        self.told_in = "failures.jsonl of the folder pictures"

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows

    def describe(self) -> dict[str, Any]:
        """What result.json says of the input."""
        failed: dict[str, int] = {}
        for reason in self.index.failures.values():
            failed[reason] = failed.get(reason, 0) + 1
        shapes = len(np.unique(self.index.shapes, axis=0))
        return {"source": "pictures", "resize": self.resize, "pictures": len(self.index.ids), "shapes": shapes} | {
            "failed": failed
        }

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Raises StoreError: the model encodes the pictures itself."""
        raise StoreError("features.source is pictures: there are no features, the model encodes the pictures itself")

    def bytes_of(self, image_id: str) -> int:
        """How many bytes a picture takes in a batch."""
        return int(3 * self.index.shapes[self._row(image_id)].astype(np.int64).prod())

    def pixels(self, image_ids: Sequence[str]) -> PixelBatch:
        """The distinct pictures among the ids in order of first use.

        Raises StoreError naming an id that is unknown, cannot be used, or was kept and is damaged, ImageError where a
        picture can no longer be read.
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
            if self._file is not None and zlib.crc32(flat.data) != self.index.sums[row]:
                raise StoreError(
                    f"{self._file}: picture '{self.index.ids[row]}' is damaged (its checksum is another); remove the "
                    "file and start again: it is made anew"
                )
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


def one_picture(spec: EncoderSpec, image_id: str, resized: Resized, resize: str) -> PictureSource:
    """A source of one picture that is at hand."""
    pixels = resized.pixels.numpy()
    shape = np.asarray([pixels.shape[1:]], dtype=np.int32)
    index = PictureIndex("", (image_id,), shape, np.asarray([resized.visible], dtype=np.int32), {}, {}, kept=1)
    return PictureSource(spec, index, {}, lambda item: resized, resize=resize, kept=pixels.reshape(-1))
