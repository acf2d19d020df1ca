"""A teacher's features of the training pictures by number: in memory where they fit, else from the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clipvil.features.base import FeatureSource, pooled_of

LIMIT = 2**30
"""Bytes of float32 cells up to which they are held."""
_AT_ONCE = 256


class PictureCells:
    """Cells (P, N, C) of pictures, mapped once where they are held, and pooled vectors (P, D)."""

    def __init__(self, source: FeatureSource, images: Sequence[str], *, limit: int = LIMIT) -> None:
        self.source, self.images = source, list(images)
        self.channels = source.spec.grid_channels
        self.pooled_channels = source.spec.pooled_channels
        self._pooled: Tensor | None = None
        if self.pooled_channels is not None:
            parts = [pooled_of(source, self.images[s : s + _AT_ONCE]) for s in range(0, len(images), _AT_ONCE)]
            known = [part for part in parts if part is not None]
            self._pooled = torch.cat(known) if len(known) == len(parts) else None
        first = source.batch(self.images[:1])
        self._fits = first.cells.nbytes * len(images) <= limit
        self._held: dict[str, tuple[Tensor, Tensor]] = {}

    def pooled(self, places: Tensor) -> Tensor | None:
        """(L, D), None where the source keeps none."""
        return None if self._pooled is None else self._pooled[places]

    def at(self, places: Tensor, kind: str, mapping: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Mapped cells (L, N, D) padded with zeros, and shapes (L, 2); `kind` is what the mapping is called."""
        if not self._fits:
            batch = self.source.batch([self.images[place] for place in places.tolist()])
            return _zeroed(mapping(batch.cells), batch.mask), batch.shapes
        if kind not in self._held:
            self._held[kind] = self._hold(mapping)
        cells, shapes = self._held[kind]
        return cells[places], shapes[places]

    def moments(self, mapping: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and spread of every channel of the mapped cells, over all pictures."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for start in range(0, len(self.images), _AT_ONCE):
            batch = self.source.batch(self.images[start : start + _AT_ONCE])
            cells = batch.cells.flatten(0, 1) if batch.mask is None else batch.cells[batch.mask]
            values = mapping(cells).double()
            count += len(values)
            total, squares = total + values.sum(0), squares + values.square().sum(0)
        mean = total / count
        return mean.float(), (squares / count - mean.square()).clamp(min=1e-12).sqrt().float()

    def _hold(self, mapping: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        cells, shapes = [], []
        for start in range(0, len(self.images), _AT_ONCE):
            batch = self.source.batch(self.images[start : start + _AT_ONCE])
            cells.append(_zeroed(mapping(batch.cells), batch.mask))
            shapes.append(batch.shapes)
        longest = max(part.shape[1] for part in cells)
        padded = [torch.nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in cells]
        return torch.cat(padded), torch.cat(shapes)


def _zeroed(cells: Tensor, mask: Tensor | None) -> Tensor:
    return cells if mask is None else cells * mask[..., None]
