"""LMDB dumps as the captioning code makes them: key the picture's id in ASCII, value the bytes of its .npy or .npz.

Read: a .npy of (H, W, C) or of regions (N, C); a .npz with `feat` (or `z`) of the same, and where there are `boxes`
(N, 4) in pixels and `size` (height, width), as written here, these too. Keys that begin with `__` belong to the
libraries that wrote the file and are passed over.
"""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clipvil.errors import DataError, FeatureError
from clipvil.features.foreign.arrays import check_size, npy_bytes, read_npy_bytes, read_npz, write_npz
from clipvil.features.foreign.base import ForeignRecord, ForeignSource, ForeignWriter, Options
from clipvil.features.foreign.caption import KEYS
from clipvil.features.foreign.grids import as_record
from clipvil.features.foreign.listing import ids_of
from clipvil.features.foreign.optional import require
from clipvil.files import fsync_folder

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store

_FILE = "features.lmdb"
_FIRST_SIZE = 1 << 30


def open_source(place: Path, options: Options) -> ForeignSource:
    """An LMDB file, or the folder with its data.mdb."""
    lmdb = require("lmdb", "lmdb")
    data = place / "data.mdb" if place.is_dir() else place
    if not data.is_file():
        raise DataError("no such file", file=data, fix="name an LMDB file, or the folder that holds its data.mdb")
    try:
        environment = lmdb.open(str(data), readonly=True, lock=False, subdir=False, readahead=False)
        _check_length(environment, data)
        with environment.begin() as transaction:
            keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
    except lmdb.Error as error:
        raise DataError(f"cannot be read as LMDB ({error})", file=data) from None
    keys = [key for key in keys if not key.startswith(b"__")]
    if not keys:
        raise DataError("holds no pictures", file=data)

    def where(row: int) -> str:
        return f"{data}[{keys[row].decode('utf-8', 'backslashreplace')}]"

    def read(row: int) -> ForeignRecord:
        with environment.begin(buffers=True) as transaction:
            value = transaction.get(keys[row])
            if value is None:
                raise FeatureError("missing", f"{where(row)}: the key is gone")
            check_size(len(value), "the value", where(row))
            return _record(bytes(value), options, where(row))

    names = [key.decode("utf-8", "backslashreplace") for key in keys]
    return ForeignSource(place.name, ids_of(names, options.ids), where, read)


def _check_length(environment: Any, data: Path) -> None:
    # The library maps the file and would die, not complain, at pages behind its end.
    need = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if data.stat().st_size < need:
        raise DataError(f"cut short: {data.stat().st_size} bytes of {need}", file=data, fix="copy it again")


def _record(value: bytes, options: Options, where: str) -> ForeignRecord:
    layout = options.layout or "hwc"
    if not value.startswith(b"PK"):
        return as_record(read_npy_bytes(value, where), layout, options.channels, where)
    array, boxes, size = read_npz(value, where, [KEYS, "boxes", "size"])
    if array is None:
        raise FeatureError("misshapen", f"{where}: no array 'feat' in it")
    record = as_record(array, layout, options.channels, where)
    if record.cells == "grid" or boxes is None or size is None:
        return record
    if tuple(boxes.shape) != (len(record.grid), 4) or tuple(size.shape) != (2,):
        raise FeatureError("misshapen", f"{where}: boxes of shape {tuple(boxes.shape)} for {len(record.grid)} regions")
    return replace(record, cells="boxes", boxes=boxes.float(), size=(int(size[0]), int(size[1])))


class _LmdbWriter:
    """One LMDB file, made under a temporary name; its map grows as it fills."""

    def __init__(self, path: Path, store: Store) -> None:
        self._lmdb = require("lmdb", "lmdb")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._store, self._done = path, store, path.exists()
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._environment: Any = None
        if not self._done:
            self._remove()
            self._environment = self._lmdb.open(
                str(self._temporary), subdir=False, lock=False, map_size=_FIRST_SIZE, meminit=False, sync=False
            )

    def has(self, image_id: str) -> bool:
        """Whether the whole file is there."""
        return self._done

    def write(self, image_id: str, features: Features) -> None:
        """Put one value."""
        key, value = image_id.encode(), _value(features, self._store)
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    transaction.put(key, value)
                return
            except self._lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])

    def close(self) -> None:
        """Put the file in its place."""
        if self._environment is not None:
            self._environment.sync(True)
            self._environment.close()
            # Opened for growth, the file may be longer than what it holds; that is sparse and does no harm.
            with self._temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            self._temporary.replace(self._path)
            fsync_folder(self._path.parent)

    def abort(self) -> None:
        """Remove what was written."""
        if self._environment is not None:
            self._environment.close()
            self._remove()

    def _remove(self) -> None:
        if self._temporary.is_dir():
            shutil.rmtree(self._temporary)
        self._temporary.unlink(missing_ok=True)


def _value(features: Features, store: Store) -> bytes:
    if store.manifest.cells == "grid":
        return npy_bytes(features.grid)
    if features.boxes is None:
        return npy_bytes(features.grid[:, 0])
    stream = io.BytesIO()
    size = torch.tensor(features.original_size, dtype=torch.float32)
    write_npz(stream, {"feat": features.grid[:, 0], "boxes": features.boxes, "size": size})
    return stream.getvalue()


def open_target(folder: Path, store: Store) -> ForeignWriter:
    """`features.lmdb`: .npy (H, W, C) of grids, .npz of regions."""
    return _LmdbWriter(folder / _FILE, store)
