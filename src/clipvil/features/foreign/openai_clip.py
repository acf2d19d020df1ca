"""The files of OpenAI-CLIP-Feature (and X-modaler): `<id>.npz` with `features` (N, C) and `g_feature` (1, D), float32.

The grid is flattened row by row and its shape is not in the file: it is square unless said otherwise.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from clipvil.errors import FeatureError, UsageError
from clipvil.features.foreign.arrays import read_npz, write_npz
from clipvil.features.foreign.base import ForeignRecord, ForeignSource, ForeignWriter, Options
from clipvil.features.foreign.files import FileWriter
from clipvil.features.foreign.grids import unflatten
from clipvil.features.foreign.listing import ids_of, list_files
from clipvil.features.index import STATUSES

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store


def open_source(folder: Path, options: Options) -> ForeignSource:
    """A folder of such files. A file without `g_feature` has no pooled vector."""
    stems = list_files(folder, ".npz")

    def read(row: int) -> ForeignRecord:
        path = folder / f"{stems[row]}.npz"
        where = str(path)
        features, pooled = read_npz(path, where, ["features", "g_feature"])
        if features is None:
            raise FeatureError("misshapen", f"{where}: no array 'features' in it")
        record = ForeignRecord(unflatten(features, options.grid, options.channels, where))
        if pooled is None or not options.pooled:
            return record
        if pooled.numel() != pooled.shape[-1]:
            raise FeatureError("misshapen", f"{where}: 'g_feature' of shape {tuple(pooled.shape)}, expected (1, D)")
        return replace(record, pooled=pooled.reshape(-1))

    return ForeignSource(folder.name, ids_of(stems, options.ids), lambda row: f"{folder}/{stems[row]}.npz", read)


def open_target(folder: Path, store: Store) -> ForeignWriter:
    """`<id>.npz`. Raises UsageError for regions, and for grids whose shape the files could not give back."""
    if store.manifest.cells != "grid":
        raise UsageError(f"{store.path}: holds regions, which openai-clip-npz cannot; use bottom-up-tsv or hdf5")
    rows = store.rows()
    good = rows[rows["status"] == STATUSES.index("ok")]
    shapes = np.unique(np.stack([good["height"], good["width"]], 1), axis=0)
    if len(shapes) > 1 and any(height != width or math.isqrt(height * width) != height for height, width in shapes):
        raise UsageError(
            f"{store.path}: its grids are not all square and differ in shape; openai-clip-npz keeps no shapes, use "
            "mmf-npy or clipvil-caption"
        )

    def fill(stream: IO[bytes], features: Features) -> None:
        arrays = {"features": features.grid.flatten(0, 1)}
        if features.pooled is not None:
            arrays["g_feature"] = features.pooled.unsqueeze(0)
        write_npz(stream, arrays)

    return FileWriter(store, {(folder, ".npz"): fill})
