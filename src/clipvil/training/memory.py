"""Small feature stores, held in memory for the length of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from clipvil.errors import StoreError
from clipvil.features.base import FeatureSource, GridBatch

LIMIT = 2**30
"""Bytes of float32 features up to which it is done."""
_AT_ONCE = 256


class MemorySource:
    """Features of pictures whose grids all have one shape, as one float32 tensor; a batch is one gather.

    The values are those of the source bit for bit, so nothing but the speed depends on it.
    """

    def __init__(self, source: FeatureSource, image_ids: Sequence[str]) -> None:
        """Raises ValueError where the grids differ in shape."""
        self.spec = source.spec
        self._place = {image_id: place for place, image_id in enumerate(image_ids)}
        first = source.batch(image_ids[:1])
        self._shape = first.shapes[0]
        self._cells = torch.empty(len(image_ids), *first.cells.shape[1:])
        self._pooled = None if first.pooled is None else torch.empty(len(image_ids), *first.pooled.shape[1:])
        self._boxes = None if first.boxes is None else torch.empty(len(image_ids), *first.boxes.shape[1:])
        for start in range(0, len(image_ids), _AT_ONCE):
            part = source.batch(image_ids[start : start + _AT_ONCE])
            if part.mask is not None or not bool((part.shapes == self._shape).all()):
                raise ValueError("the grids differ in shape")
            self._cells[start : start + _AT_ONCE] = part.cells
            if self._pooled is not None and part.pooled is not None:
                self._pooled[start : start + _AT_ONCE] = part.pooled
            if self._boxes is not None and part.boxes is not None:
                self._boxes[start : start + _AT_ONCE] = part.boxes

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._place

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Features in the order asked; ids may repeat. Raises StoreError naming an absent one."""
        places = self._places(image_ids)
        pooled: Tensor | None = None if self._pooled is None else self._pooled[places]
        boxes: Tensor | None = None if self._boxes is None else self._boxes[places]
        return GridBatch(self._cells[places], None, self._shape.repeat(len(image_ids), 1), pooled, boxes)

    def pooled(self, image_ids: Sequence[str]) -> Tensor | None:
        """Pooled vectors (B, D) in the order asked, or None. Raises StoreError naming an absent one."""
        return None if self._pooled is None else self._pooled[self._places(image_ids)]

    def _places(self, image_ids: Sequence[str]) -> Tensor:
        try:
            return torch.tensor([self._place[image_id] for image_id in image_ids])
        except KeyError as absent:
            raise StoreError(f"no features of picture {absent} are held in memory") from None


def in_memory(source: FeatureSource, image_ids: Iterable[str], *, limit: int = LIMIT) -> FeatureSource:
    """The same features from memory where they fit into `limit` bytes and all grids have one shape; else `source`."""
    wanted = list(dict.fromkeys(image_ids))
    first = source.batch(wanted[:1])
    if first.cells.nbytes * len(wanted) > limit:
        return source
    try:
        return MemorySource(source, wanted)
    except ValueError:
        return source
