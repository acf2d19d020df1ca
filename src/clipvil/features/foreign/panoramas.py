"""Features of navigation panoramas: 36 views a viewpoint, in the two layouts that were released.

- TSV without a header (R2R, EnvDrop, CLIP-ViL): scanId, viewpointId, image_w, image_h, vfov, base64 of float32 (36, D).
- HDF5 (HAMT, DUET): a dataset `<scan>_<viewpoint>` of (36, D); files with 1,000 more columns hold the logits of a
  classifier behind the features, which `channels` leaves out.

Records get the id `<scan>_<viewpoint>` and a grid of 3 rows (down, level, up) and 12 columns. CLIP-ViL's files come
from pictures whose red and blue were swapped, HAMT's do not: the two are not to be mixed.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clipvil.errors import DataError, FeatureError, UsageError
from clipvil.features.foreign.arrays import check_size
from clipvil.features.foreign.base import ForeignRecord, ForeignSource, ForeignWriter, Options
from clipvil.features.foreign.bottom_up import floats
from clipvil.features.foreign.hdf5_dump import open_datasets, read_dataset

if TYPE_CHECKING:
    from clipvil.features.store import Store

_ROWS, _COLUMNS = 3, 12
_VIEWS = _ROWS * _COLUMNS
_BLOCK = 1 << 20


def open_source_tsv(place: Path, options: Options) -> ForeignSource:
    """A TSV file of panoramas."""
    if not place.is_file():
        raise DataError("no such file", file=place)
    names: list[str] = []
    start, length = array("Q"), array("Q")
    for name, begin, size in _lines(place):
        names.append(name)
        start.append(begin)
        length.append(size)
    if not names:
        raise DataError("is empty", file=place)

    def where(row: int) -> str:
        return f"{place} at byte {start[row]}"

    def read(row: int) -> ForeignRecord:
        check_size(length[row] * 3 // 4, "the line", where(row))
        with place.open("rb") as stream:
            stream.seek(start[row])
            fields = stream.read(length[row]).rstrip(b"\r\n").split(b"\t")
        if len(fields) != 6:
            reason = "truncated" if len(fields) < 6 else "corrupt"
            raise FeatureError(reason, f"{where(row)}: {len(fields)} columns, expected 6")
        values = floats(fields[5], "features", where(row))
        if len(values) % _VIEWS:
            raise FeatureError("misshapen", f"{where(row)}: {len(values)} numbers are no {_VIEWS} views")
        return _record(values.reshape(_VIEWS, -1), options.channels, where(row))

    return ForeignSource(place.name, names, where, read)


def _lines(path: Path) -> list[tuple[str, int, int]]:
    """Id, first byte and length of every line, without holding a line in memory: one of them may take 400 kB."""
    out: list[tuple[str, int, int]] = []
    with path.open("rb") as stream:
        position = begin = 0
        head = b""
        while block := stream.read(_BLOCK):
            at = 0
            while (end := block.find(b"\n", at)) >= 0:
                head = (head + block[at : min(end, at + 256)])[:256]
                _note(out, head, begin, position + end - begin)
                at, begin, head = end + 1, position + end + 1, b""
            head = (head + block[at : at + 256])[:256]
            position += len(block)
        _note(out, head, begin, position - begin)
    return out


def _note(out: list[tuple[str, int, int]], head: bytes, begin: int, length: int) -> None:
    if not head.strip():
        return
    fields = head.split(b"\t")
    if not out and fields[0].strip() == b"scanId":
        return
    scan, viewpoint = (
        fields[number].strip().decode("utf-8", "backslashreplace") for number in (0, min(1, len(fields) - 1))
    )
    out.append((f"{scan}_{viewpoint}", begin, length))


def open_source_hdf5(place: Path, options: Options) -> ForeignSource:
    """An HDF5 file of panoramas."""
    file, names = open_datasets(place)
    if not names:
        raise DataError("holds no datasets", file=place)

    def where(row: int) -> str:
        return f"{place}[{names[row]}]"

    def read(row: int) -> ForeignRecord:
        values = read_dataset(file, names[row], where(row))
        if values.ndim != 2 or len(values) != _VIEWS:
            raise FeatureError("misshapen", f"{where(row)}: an array of shape {tuple(values.shape)}, expected (36, D)")
        return _record(values[:, : options.channels], options.channels, where(row))

    return ForeignSource(place.name, names, where, read)


def _record(values: Tensor, channels: int | None, where: str) -> ForeignRecord:
    if not values.shape[1] or (channels and values.shape[1] != channels):
        asked = f", asked for {channels}" if channels else ""
        raise FeatureError("misshapen", f"{where}: {values.shape[1]} numbers a view{asked}")
    return ForeignRecord(torch.clone(values).reshape(_ROWS, _COLUMNS, -1))


def _no_target(kind: str) -> Any:
    raise UsageError(f"panoramas are not written as {kind}; read the store with clipvil.features.panorama")


def open_target_tsv(folder: Path, store: Store) -> ForeignWriter:
    """Refused: nothing reads such files that could not read the store."""
    writer: ForeignWriter = _no_target("vln-tsv")
    return writer


def open_target_hdf5(folder: Path, store: Store) -> ForeignWriter:
    """Refused, as above; `hdf5` writes a dataset a viewpoint."""
    writer: ForeignWriter = _no_target("vln-hdf5")
    return writer
