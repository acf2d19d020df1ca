"""The files of CLIP-ViL's captioning code (and of ImageCaptioning.pytorch): two folders, `X_att` and `X_fc`.

`X_att/<id>.npz` holds the grid (H, W, C) under `feat`, `X_fc/<id>.npy` the pooled vector (D,). Bottom-up regions of the
same code are `X_att/<id>.npz` with `feat` (N, C), or `z` in one known release. Their `X_box` folders are not read: the
boxes are in pixels of pictures whose size no file says.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from torch import Tensor

from clipvil.errors import DataError, FeatureError, UsageError
from clipvil.features.foreign.arrays import npy_bytes, read_npy_file, read_npz, write_npz
from clipvil.features.foreign.base import ForeignRecord, ForeignSource, ForeignWriter, Options
from clipvil.features.foreign.files import FileWriter, Fill
from clipvil.features.foreign.grids import as_record
from clipvil.features.foreign.listing import ids_of, list_files

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store

KEYS = ("feat", "z")


def open_source(place: Path, options: Options) -> ForeignSource:
    """The pair of folders whose names begin with `place`; `place` may also be the `X_att` folder itself.

    Without an `X_fc` folder, or with `pooled` off, there are no pooled vectors.
    """
    prefix = place.with_name(place.name.removesuffix("_att"))
    att, fc = prefix.with_name(f"{prefix.name}_att"), prefix.with_name(f"{prefix.name}_fc")
    if not att.is_dir():
        raise DataError("no such folder", file=att, fix="name what stands before _att and _fc")
    stems, pooled = list_files(att, ".npz"), options.pooled and fc.is_dir()

    def read(row: int) -> ForeignRecord:
        path = att / f"{stems[row]}.npz"
        array = read_npz(path, str(path), [KEYS])[0]
        if array is None:
            raise FeatureError("misshapen", f"{path}: no array 'feat' in it")
        record = as_record(array, options.layout or "hwc", options.channels, str(path))
        return replace(record, pooled=_vector(fc / f"{stems[row]}.npy")) if pooled else record

    return ForeignSource(prefix.name, ids_of(stems, options.ids), lambda row: f"{att}/{stems[row]}.npz", read)


def _vector(path: Path) -> Tensor:
    vector = read_npy_file(path)
    if vector.ndim != 1:
        raise FeatureError("misshapen", f"{path}: an array of shape {tuple(vector.shape)}, expected one vector")
    return vector


def open_target(folder: Path, store: Store) -> ForeignWriter:
    """`features_att` and, where the store has pooled vectors, `features_fc` inside `folder`, float32."""
    if store.manifest.cells == "boxes":
        raise UsageError(
            f"{store.path}: holds regions with boxes, which clipvil-caption cannot; use bottom-up-tsv or hdf5"
        )

    def grid(stream: IO[bytes], features: Features) -> None:
        write_npz(stream, {"feat": features.grid if store.manifest.cells == "grid" else features.grid[:, 0]})

    def vector(stream: IO[bytes], features: Features) -> None:
        assert features.pooled is not None
        stream.write(npy_bytes(features.pooled))

    parts: dict[tuple[Path, str], Fill] = {(folder / "features_att", ".npz"): grid}
    if store.manifest.encoder.pooled_channels:
        parts[folder / "features_fc", ".npy"] = vector
    return FileWriter(store, parts)
