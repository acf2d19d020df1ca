"""Features of the 36 views of every viewpoint in one array, for agents that look a batch up at every step.

A feature store holds them in one of two ways:

- a record a viewpoint, `<scan>_<viewpoint>`, whose grid of 3 rows and 12 columns (or 36 x 1) holds the views in the
  order of the simulator: what `clipvil features import --format vln-tsv` or `vln-hdf5` writes;
- a record a view, `<scan>_<viewpoint>_<view>` with a view of two digits, or that with the suffix of its file, as
  `clipvil extract` makes of a folder of views: its pooled vector counts, or the mean of its grid where there is none.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from clipvil.errors import StoreError
from clipvil.features.store import Store
from clipvil.simulator.simulator import Candidates
from clipvil.simulator.views import VIEWS, angle_features, view_angle_table
from clipvil.simulator.world import World

Array = npt.NDArray[np.float32]
Dtype = Literal["float32", "float16"]
_BLOCK = 64
_SUFFIXES = ("", ".png", ".jpg", ".jpeg")
"""What may follow the id of a view: a folder's pictures are called by their file names."""


class PanoramaFeatures:
    """Features of V viewpoints: `values` (V, 36, D), by number in a world. Viewpoints not included are zeros."""

    def __init__(self, values: npt.NDArray[np.floating], *, angle_size: int = 128) -> None:
        """`angle_size` is the length A of the angle features that go with them (128 in all published runs)."""
        if values.ndim != 3 or values.shape[1] != VIEWS:
            raise StoreError(f"panoramas are (viewpoints, {VIEWS}, D), not {tuple(values.shape)}")
        self.size, self.angle_size = int(values.shape[2]), angle_size
        # Rows leave room for the angles, so that a batch is one copy and not two.
        self._wide = np.zeros((len(values), VIEWS, self.size + angle_size), values.dtype)
        self._wide[..., : self.size] = values
        self._angles = view_angle_table(angle_size)

    @property
    def values(self) -> npt.NDArray[np.floating]:
        """(V, 36, D): the features without angles."""
        return self._wide[..., : self.size]

    @classmethod
    def from_store(
        cls, store: Store, world: World, *, angle_size: int = 128, dtype: Dtype = "float32"
    ) -> PanoramaFeatures:
        """Read all viewpoints of a world. Raises StoreError naming one whose features are missing or misshapen."""
        keys, wanted = world.keys(), np.flatnonzero(world.included)
        by_viewpoint = bool(len(wanted)) and keys[int(wanted[0])] in store
        out: PanoramaFeatures | None = None
        for start in range(0, len(wanted), _BLOCK):
            numbers = wanted[start : start + _BLOCK]
            names = [keys[number] for number in numbers]
            block = _of_viewpoints(store, names) if by_viewpoint else _of_views(store, names)
            if out is None:
                empty = np.broadcast_to(np.zeros(1, dtype), (len(world), VIEWS, block.shape[2]))
                out = cls(empty, angle_size=angle_size)
            out.values[numbers] = block
        if out is None:
            raise StoreError("a world without included viewpoints has no panoramas")
        return out

    def views(
        self, viewpoint: npt.NDArray[np.int64], view: npt.NDArray[np.int64], *, out: Array | None = None
    ) -> Array:
        """What B agents see around them: (B, 36, D + A) float32, headings relative to their own column.

        `out` of that shape is filled and returned: fresh memory costs as much as the copy. It must not be needed any
        more, as it is by a backward pass through earlier steps.
        """
        if self._wide.dtype != np.float32:
            found = self._wide[viewpoint].astype(np.float32)
        elif out is None:
            found = self._wide.take(viewpoint, axis=0)
        else:
            # With `raise` numpy would fill a buffer first and copy that.
            found = self._wide.take(viewpoint, axis=0, out=out, mode="clip")
        found[..., self.size :] = self._angles[view]
        return found

    def candidates(self, viewpoint: npt.NDArray[np.int64], seen: Candidates, *, stop: bool = True) -> Array:
        """What they see of the places they can go to: (B, K, D + A) float32, zeros in unused slots.

        With `stop` there is one slot more, for stopping, whose features are zeros as published; it is the slot after
        the last candidate.
        """
        count, slots = seen.viewpoint.shape
        out = np.zeros((count, slots + stop, self.size + self.angle_size), np.float32)
        agent, slot = np.nonzero(seen.real)
        rows = self._wide[viewpoint[agent], seen.view[agent, slot]].astype(np.float32, copy=False)
        rows[:, self.size :] = angle_features(seen.heading[agent, slot], seen.elevation[agent, slot], self.angle_size)
        out[agent, slot] = rows
        return out


def _of_viewpoints(store: Store, names: list[str]) -> Array:
    batch = store.batch(names)
    shapes = batch.shapes.numpy()
    wrong = np.flatnonzero((shapes[:, 0] * shapes[:, 1] != VIEWS) | ((shapes[:, 0] != 3) & (shapes[:, 1] != 1)))
    if len(wrong):
        height, width = shapes[int(wrong[0])]
        raise StoreError(
            f"{store.path}: '{names[int(wrong[0])]}' holds {height} x {width} cells, no panorama of 3 x 12"
        )
    return np.asarray(batch.cells.numpy(), np.float32)


def _of_views(store: Store, names: list[str]) -> Array:
    suffix = next((suffix for suffix in _SUFFIXES if _has(store, f"{names[0]}_00{suffix}")), None)
    if suffix is None:
        raise StoreError(f"{store.path}: no features of the viewpoint '{names[0]}', neither whole nor view by view")
    ids = [f"{name}_{view:02d}{suffix}" for name in names for view in range(VIEWS)]
    pooled = store.pooled(ids)
    if pooled is None:
        batch = store.batch(ids)
        total = batch.cells.sum(1)
        pooled = total / batch.shapes.prod(1, keepdim=True)
    return np.asarray(pooled.numpy(), np.float32).reshape(len(names), VIEWS, -1)


def _has(store: Store, name: str) -> bool:
    lacking = store.lacking([name])
    return not (lacking.unknown or lacking.failed)
