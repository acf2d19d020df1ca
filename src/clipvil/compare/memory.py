"""Features held in memory: a comparison reads the same small store many times over."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipvil.encoders.base import EncoderSpec
from clipvil.features.base import FeatureSource, GridBatch
from clipvil.features.store import Store

LIMIT = 2 << 30
"""Bytes of features that are read into memory at most; larger stores stay on disk."""
_CHUNK = 512


class MemoryFeatures:
    """A whole store as one tensor in the store's own precision; implements FeatureSource with the same numbers.

    Only for stores whose grids all have one shape: then a batch is one gather instead of one read a picture.
    """

    def __init__(self, store: Store, ids: Sequence[str], cells: Tensor, shape: Tensor, pooled: Tensor | None) -> None:
        self.spec: EncoderSpec = store.spec
        self.manifest = store.manifest
        self._place = {image_id: number for number, image_id in enumerate(ids)}
        self._cells, self._shape, self._pooled, self._store = cells, shape, pooled, store

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._place

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """As `Store.batch`. Raises StoreError naming a picture that is absent or failed."""
        try:
            rows = torch.tensor([self._place[image_id] for image_id in image_ids])
        except KeyError:
            return self._store.batch(image_ids)  # which says what is wrong with the picture
        pooled = None if self._pooled is None else self._pooled[rows].float()
        return GridBatch(self._cells[rows].float(), None, self._shape.expand(len(rows), 2).contiguous(), pooled)


def in_memory(store: Store, *, limit: int = LIMIT) -> FeatureSource:
    """The store's features in memory where they fit into `limit` bytes and all have one shape; else the store."""
    ids = store.ids()
    if not ids:
        return store
    first = store[ids[0]]
    size = first.grid.numel() + (first.pooled.numel() if first.pooled is not None else 0)
    if size * first.grid.element_size() * len(ids) > limit:
        return store
    rows, columns, channels = first.grid.shape
    cells = torch.empty(len(ids), rows * columns, channels, dtype=first.grid.dtype)
    pooled = None
    if first.pooled is not None:
        pooled = torch.empty(len(ids), first.pooled.shape[0], dtype=first.pooled.dtype)
    for start in range(0, len(ids), _CHUNK):
        batch = store.batch(ids[start : start + _CHUNK])
        if batch.mask is not None or batch.shapes[0].tolist() != [rows, columns]:
            return store
        cells[start : start + _CHUNK] = batch.cells
        if pooled is not None and batch.pooled is not None:
            pooled[start : start + _CHUNK] = batch.pooled
    return MemoryFeatures(store, ids, cells, torch.tensor([[rows, columns]]), pooled)
