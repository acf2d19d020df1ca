"""Features with some pictures hidden, so that several sources can be made to know the same ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor

from clipvil.errors import StoreError
from clipvil.features.base import FeatureSource, GridBatch, pooled_of


class Without:
    """A FeatureSource that has no features of the `hidden` pictures and is otherwise `source`."""

    def __init__(self, source: FeatureSource, hidden: Collection[str]) -> None:
        self.source, self.hidden, self.spec = source, frozenset(hidden), source.spec

    def __contains__(self, image_id: object) -> bool:
        return image_id not in self.hidden and image_id in self.source

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """As the source's. Raises StoreError naming a hidden picture."""
        self._refuse(image_ids)
        return self.source.batch(image_ids)

    def pooled(self, image_ids: Sequence[str]) -> Tensor | None:
        """As the source's. Raises StoreError naming a hidden picture."""
        self._refuse(image_ids)
        return pooled_of(self.source, image_ids)

    def __getattr__(self, name: str) -> Any:
        # What only some sources have (pixels, reading_order); copying and pickling ask before anything is there.
        if name == "source" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.source, name)

    def _refuse(self, image_ids: Sequence[str]) -> None:
        hidden = next((image_id for image_id in image_ids if image_id in self.hidden), None)
        if hidden is not None:
            raise StoreError(f"picture {hidden!r} is left out: another encoder has no features of it")


def bare(features: FeatureSource) -> FeatureSource:
    """The source itself, whatever hides pictures of it."""
    return bare(features.source) if isinstance(features, Without) else features
