"""HDF5 in the two layouts that are common.

- One dataset a picture at the top of the file, named by its id, as the captioning code dumps them: (H, W, C), or
  regions (N, C).
- Bottom-up: `image_features`, (pictures, K, C) or, with `pos_boxes` (pictures, 2) of first and last row, (rows, C).
  `image_bb` holds the boxes in pixels; the picture's size comes from `image_w` and `image_h`, or from
  `spatial_features`, whose first four columns are the boxes as shares of it. Without a size the boxes are left out.
  The ids are in `image_ids`, or in a file of their own (`ids_file`): the usual `*_imgid2idx.pkl` is a pickle and must
  be turned into JSON first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipvil.errors import DataError, FeatureError, UsageError
from clipvil.features.foreign.arrays import check_size, first_line
from clipvil.features.foreign.base import ForeignRecord, ForeignSource, ForeignWriter, Options
from clipvil.features.foreign.grids import as_record
from clipvil.features.foreign.hdf5_ids import read_ids
from clipvil.features.foreign.listing import ids_of
from clipvil.features.foreign.optional import require
from clipvil.files import fsync_folder
from clipvil.images.sources.base import printable

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store

_FILE = "features.h5"


def open_source(place: Path, options: Options) -> ForeignSource:
    """An HDF5 file of either layout."""
    h5py = require("h5py", "hdf5")
    file, names = open_datasets(place)
    if "image_features" in names:
        return _BottomUp(h5py, file, place, options).source()
    if not names:
        raise DataError("holds no datasets", file=place)
    if options.ids_file is not None:
        raise UsageError("--ids-file is for the bottom-up layout; these datasets are named by their pictures")

    def where(row: int) -> str:
        return f"{place}[{names[row]}]"

    def read(row: int) -> ForeignRecord:
        values = _read(h5py, file, names[row], slice(None), where(row))
        return as_record(values, options.layout or "hwc", options.channels, where(row))

    return ForeignSource(place.name, ids_of(names, options.ids), where, read)


def open_datasets(place: Path) -> tuple[Any, list[str]]:
    """An HDF5 file, opened, and the names at its top. Raises DataError, or UsageError where h5py is not installed."""
    h5py = require("h5py", "hdf5")
    if not place.is_file():
        raise DataError("no such file", file=place)
    try:
        file = h5py.File(place, "r")
        return file, list(file)
    except (OSError, RuntimeError) as error:
        raise DataError(f"cannot be read as HDF5 ({first_line(error)})", file=place) from None


def read_dataset(file: Any, name: str, where: str) -> Tensor:
    """All of a dataset that lies in this very file. Raises FeatureError."""
    return _read(require("h5py", "hdf5"), file, name, slice(None), where)


def _dataset(h5py: Any, file: Any, name: str, where: str) -> Any:
    """A dataset that lies in this very file. Raises FeatureError."""
    try:
        # An HDF5 file may point at others; reading wherever it says is not what an import was asked for.
        dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if dataset is None or not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise FeatureError("unsupported", f"{where}: no dataset of this file itself")
        if dataset.dtype.hasobject:
            raise FeatureError("unsupported", f"{where}: holds objects, expected a float array")
        return dataset
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise FeatureError("corrupt", f"{where}: cannot be read ({first_line(error)})") from None


def _read(h5py: Any, file: Any, name: str, rows: slice | int, where: str) -> Tensor:
    """All of a dataset, some rows or one of them. Raises FeatureError."""
    dataset = _dataset(h5py, file, name, where)
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (2, 4, 8):
        raise FeatureError("unsupported", f"{where}: values of type {dataset.dtype}, expected floats")
    shape = _selected(dataset.shape, rows)
    if not shape or not math.prod(shape):
        raise FeatureError("empty", f"{where}: a dataset of shape {dataset.shape} holds nothing there")
    check_size(math.prod(shape) * dataset.dtype.itemsize, f"an array of shape {shape}", where)
    try:
        values = np.asarray(dataset[rows])
    except (OSError, RuntimeError, ValueError) as error:
        raise FeatureError("corrupt", f"{where}: cannot be read ({first_line(error)})") from None
    return torch.from_numpy(np.ascontiguousarray(values, values.dtype.newbyteorder("=")))


def _selected(shape: Sequence[int], rows: slice | int) -> tuple[int, ...]:
    if not shape or isinstance(rows, int):
        return tuple(shape[1:])
    return (len(range(shape[0])[rows]), *shape[1:])


class _BottomUp:
    """The layout with `image_features`."""

    def __init__(self, h5py: Any, file: Any, place: Path, options: Options) -> None:
        self._h5py, self._file, self._place, self._options = h5py, file, place, options
        try:
            features = _dataset(h5py, file, "image_features", f"{place}[image_features]")
            self._spans = self._numbers("pos_boxes") if "pos_boxes" in file else None
            sizes = [self._numbers(name) for name in ("image_h", "image_w") if name in file]
        except FeatureError as error:
            raise DataError(str(error)) from None
        self._sizes = np.stack(sizes, 1) if len(sizes) == 2 and sizes[0].shape == sizes[1].shape else None
        self._count = len(features) if self._spans is None else len(self._spans)
        if features.ndim != (3 if self._spans is None else 2) or (self._spans is not None and self._spans.ndim != 2):
            raise DataError(
                f"image_features of shape {features.shape}: expected (pictures, K, C), or (rows, C) with pos_boxes",
                file=place,
            )

    def source(self) -> ForeignSource:
        """Its pictures in the order of the file."""
        ids = read_ids(self._file, self._place, self._options.ids_file, self._count)
        return ForeignSource(self._place.name, ids_of(ids, self._options.ids), self._where, self._record)

    def _numbers(self, name: str) -> np.ndarray[Any, Any]:
        dataset = _dataset(self._h5py, self._file, name, f"{self._place}[{name}]")
        if dataset.dtype.kind not in "iuf":
            raise FeatureError("unsupported", f"{self._place}[{name}]: values of type {dataset.dtype}")
        check_size(dataset.size * 8, f"'{name}'", str(self._place))
        return np.asarray(dataset[...]).astype(np.int64)

    def _where(self, row: int) -> str:
        return f"{self._place}[image_features], picture {row}"

    def _record(self, row: int) -> ForeignRecord:
        where = self._where(row)
        rows: slice | int = row
        if self._spans is not None:
            first, last = (int(value) for value in self._spans[row][:2])
            if not 0 <= first < last:
                raise FeatureError("misshapen", f"{where}: pos_boxes says rows {first} to {last}")
            rows = slice(first, last)
        features = _read(self._h5py, self._file, "image_features", rows, where)
        if self._spans is not None and len(features) != last - first:
            raise FeatureError("truncated", f"{where}: rows {first} to {last} are not all there")
        record = as_record(features, "hwc", self._options.channels, where)
        boxes, size = self._boxes(row, rows, len(features), where)
        if boxes is None:
            return record
        return ForeignRecord(record.grid, boxes=boxes, size=size, cells="boxes")

    def _boxes(self, row: int, rows: slice | int, count: int, where: str) -> tuple[Tensor | None, tuple[int, int]]:
        if "image_bb" not in self._file or (self._sizes is None and "spatial_features" not in self._file):
            return None, (0, 0)
        boxes = _read(self._h5py, self._file, "image_bb", rows, where).float()
        if tuple(boxes.shape) != (count, 4):
            raise FeatureError("misshapen", f"{where}: boxes of shape {tuple(boxes.shape)} for {count} regions")
        if self._sizes is not None:
            height, width = (int(value) for value in self._sizes[row])
            return boxes, (height, width)
        shares = _read(self._h5py, self._file, "spatial_features", rows, where).float()
        if shares.ndim != 2 or len(shares) != count or shares.shape[1] < 4:
            raise FeatureError("misshapen", f"{where}: spatial_features of shape {tuple(shares.shape)}")
        return boxes, (_extent(boxes[:, 3], shares[:, 3], where), _extent(boxes[:, 2], shares[:, 2], where))


def _extent(edges: Tensor, shares: Tensor, where: str) -> int:
    """The picture's side from the far edge of a box in pixels and as a share of the side."""
    largest = int(shares.argmax())
    side = round(float(edges[largest]) / float(shares[largest])) if float(shares[largest]) > 0 else 0
    if not 0 < side < 1 << 24:
        raise FeatureError("corrupt", f"{where}: boxes and spatial_features do not agree on the picture's size")
    return side


class _Hdf5Writer:
    """One HDF5 file, made under a temporary name."""

    def __init__(self, path: Path, store: Store) -> None:
        h5py = require("h5py", "hdf5")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._store, self._done = path, store, path.exists()
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._file = None if self._done else h5py.File(self._temporary, "w")
        self._text = h5py.string_dtype("utf-8")
        self._ids: list[str] = []
        self._spans: list[tuple[int, int]] = []
        self._sizes: list[tuple[int, int]] = []

    def has(self, image_id: str) -> bool:
        """Whether the whole file is there."""
        return self._done

    def write(self, image_id: str, features: Features) -> None:
        """Put one picture."""
        assert self._file is not None
        if features.boxes is None:
            if "/" in image_id or image_id in (".", "..", "image_features"):
                raise UsageError(f"picture id {printable(image_id)!r} cannot name a dataset; use lmdb")
            grid = features.grid if self._store.manifest.cells == "grid" else features.grid[:, 0]
            self._file.create_dataset(image_id, data=grid.float().numpy())
            return
        begin = self._spans[-1][1] if self._spans else 0
        end = begin + len(features.boxes)
        for name, values in (("image_features", features.grid[:, 0].float()), ("image_bb", features.boxes)):
            if name not in self._file:
                shape = (0, values.shape[1])
                self._file.create_dataset(name, shape, "<f4", maxshape=(None, shape[1]), chunks=(64, shape[1]))
            self._file[name].resize(end, axis=0)
            self._file[name][begin:end] = values.numpy()
        self._ids.append(image_id)
        self._spans.append((begin, end))
        self._sizes.append(features.original_size)

    def close(self) -> None:
        """Put the file in its place."""
        if self._file is None:
            return
        if self._ids:
            self._file.create_dataset("pos_boxes", data=np.array(self._spans, "<i8"))
            self._file.create_dataset("image_ids", data=self._ids, dtype=self._text)
            for name, column in (("image_h", 0), ("image_w", 1)):
                self._file.create_dataset(name, data=np.array(self._sizes, "<i8")[:, column])
        self._file.close()
        with self._temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        self._temporary.replace(self._path)
        fsync_folder(self._path.parent)

    def abort(self) -> None:
        """Remove what was written."""
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def open_target(folder: Path, store: Store) -> ForeignWriter:
    """`features.h5`: a dataset a picture, or the bottom-up layout (with `pos_boxes`) for regions with boxes."""
    return _Hdf5Writer(folder / _FILE, store)
