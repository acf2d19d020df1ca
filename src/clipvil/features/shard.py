"""One shard of a store: a data file written as a stream, visible only when whole, and its index written last.

Data file (safetensors): `cells` [N, C], the cells of all grids of the shard, each grid row by row, in the order they
were encoded; `boxes` F32 [N, 4] where the cells are regions with known boxes (x1, y1, x2, y2 in pixels of the picture);
`pooled` [n, D] where the encoder has a pooled vector. The header is padded to 4096 bytes, so that it can
be written after the cells.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.index import ROW, STATUSES, Index
from clipvil.features.locked import exclusive_write, open_locked, temporary_path
from clipvil.features.manifest import Manifest
from clipvil.features.tensorfile import DTYPES, TensorFile, header_bytes
from clipvil.files import fsync_folder

HEADER = 4096
BOX = 16
"""Bytes of a box: four float32."""
CODES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
RowValue = np.void


@dataclass(frozen=True)
class Failure:
    """A picture without features: `reason` is a status of the index, `path` where it was read from."""

    id: str
    path: str
    reason: str
    message: str

    def to_line(self) -> str:
        """One JSON line. Names that are not UTF-8 are escaped, everything else is kept readable."""
        value = {"id": self.id, "path": self.path, "reason": self.reason, "message": self.message}
        line = json.dumps(value, ensure_ascii=False)
        try:
            line.encode()
        except UnicodeEncodeError:
            line = json.dumps(value)
        return line + "\n"

    @classmethod
    def from_line(cls, line: str, *, where: str) -> Failure:
        """Read back a line; raises StoreError naming `where`."""
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        keys = ("id", "path", "reason", "message")
        if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in keys):
            raise StoreError(f"{where}: damaged: not a failure record: {line[:80]!r}")
        return cls(*(value[key] for key in keys))


@dataclass(frozen=True)
class Placement:
    """Where a picture stands: its id, size (h, w) in pixels, and box (top, left, height, width) on the canvas."""

    id: str
    original_size: tuple[int, int]
    box: tuple[int, int, int, int]


class ShardWriter:
    """Writes one shard. Nothing is visible before `commit`; `abort` (or dying) leaves at most a temporary file.

    Records come in any order of `position` (place in the shard's list of pictures) and every position comes exactly
    once, as a record or as a failure. Raises StoreError when another live process writes the same shard.
    """

    def __init__(self, folder: Path, shard: int, manifest: Manifest, *, generation: int = 0) -> None:
        self.folder, self.shard, self.manifest, self.generation = folder, shard, manifest, generation
        self.path = layout.shard_data(folder, shard, generation)
        self._rows = np.zeros(manifest.shard_length(shard), ROW)
        self._ids: dict[int, str] = {}
        self._failures: dict[int, Failure] = {}
        self._pooled: list[bytes] = []
        self._boxes: list[bytes] = []
        self._cells = 0
        self._stream = open_locked(self.path, wait=False)
        self._stream.write(bytes(HEADER))

    def add(
        self,
        position: int,
        placement: Placement,
        shape: tuple[int, int],
        grid: bytes | memoryview,
        pooled: bytes,
        boxes: bytes = b"",
    ) -> None:
        """Append a record: `grid` holds h*w*C values row by row in the store's dtype, `pooled` D values or nothing.

        `boxes` holds four float32 a cell where the store keeps boxes, and nothing elsewhere.
        """
        entry, item = self.manifest.encoder, DTYPES[CODES[self.manifest.dtype]].itemsize
        cells = shape[0] * shape[1]
        if len(boxes) != (cells * BOX if self.manifest.cells == "boxes" else 0):
            raise StoreError(f"{self.path}: a record of {cells} cells came with {len(boxes)} bytes of boxes")
        if len(grid) != cells * entry.grid_channels * item or len(pooled) != (entry.pooled_channels or 0) * item:
            raise StoreError(f"{self.path}: a record of {len(grid)} bytes does not hold a grid of {shape}")
        row = self._rows[position]
        row["status"] = STATUSES.index("ok")
        row["offset"], row["slot"] = self._cells, len(self._pooled)
        row["height"], row["width"] = shape
        row["original_height"], row["original_width"] = placement.original_size
        row["box_top"], row["box_left"], row["box_height"], row["box_width"] = placement.box
        row["checksum"] = zlib.crc32(pooled, zlib.crc32(boxes, zlib.crc32(grid)))
        self._stream.write(grid)
        self._ids[position] = placement.id
        self._pooled.append(pooled)
        self._boxes.append(boxes)
        self._cells += cells

    def fail(self, position: int, failure: Failure) -> None:
        """Record that the picture at `position` has no features."""
        status = failure.reason if failure.reason in STATUSES else "error"
        self._rows[position]["status"] = STATUSES.index(status)
        self._ids[position] = failure.id
        self._failures[position] = failure

    def commit(self) -> None:
        """Make the shard visible: data to disk, renamed; then the index, likewise."""
        if len(self._ids) != len(self._rows):
            raise StoreError(f"{self.path}: {len(self._rows) - len(self._ids)} pictures were neither stored nor failed")
        self._finish_data()
        self._rows["shard"], self._rows["generation"] = self.shard, self.generation
        lines = "".join(self._failures[position].to_line() for position in sorted(self._failures))
        ids = [self._ids[position] for position in range(len(self._rows))]
        index = Index.build(ids, self._rows, where=str(self.path), failures=lines.encode())
        temporary_path(self.path).replace(self.path)
        fsync_folder(self.folder)
        with exclusive_write(layout.shard_index(self.folder, self.shard)) as stream:
            index.write(stream)
        self._stream.close()

    def abort(self) -> None:
        """Give up: remove what was written."""
        if not self._stream.closed:
            temporary_path(self.path).unlink(missing_ok=True)
            # A full disk makes the flush inside close fail a second time; the first failure is the one to report.
            with contextlib.suppress(OSError):
                self._stream.close()

    def _finish_data(self) -> None:
        entry, code = self.manifest.encoder, CODES[self.manifest.dtype]
        tensors: dict[str, tuple[str, tuple[int, ...]]] = {"cells": (code, (self._cells, entry.grid_channels))}
        if self.manifest.cells == "boxes":
            tensors["boxes"] = ("F32", (self._cells, 4))
            self._stream.write(b"".join(self._boxes))
        if entry.pooled_channels:
            tensors["pooled"] = (code, (len(self._pooled), entry.pooled_channels))
            self._stream.write(b"".join(self._pooled))
        header = header_bytes(tensors, {"format": "clipvil-shard"}, size=HEADER)
        self._stream.seek(0)
        self._stream.write(header)
        self._stream.flush()
        os.fsync(self._stream.fileno())


class ShardReader:
    """The data file of a shard, mapped and checked against the manifest."""

    def __init__(self, folder: Path, shard: int, generation: int, manifest: Manifest) -> None:
        self.path = layout.shard_data(folder, shard, generation)
        file, code, entry = TensorFile(self.path), CODES[manifest.dtype], manifest.encoder
        self.release = file.release
        self.cells = file.array("cells", code, (None, entry.grid_channels))
        self.pooled: np.ndarray[Any, Any] | None = None
        self.boxes: np.ndarray[Any, Any] | None = None
        if manifest.cells == "boxes":
            self.boxes = file.array("boxes", "F32", (len(self.cells), 4))
        if entry.pooled_channels:
            self.pooled = file.array("pooled", code, (None, entry.pooled_channels))

    def check(self, row: RowValue, *, checksum: bool) -> tuple[int, int]:
        """First and last cell of a record, inside the file; compares the checksum if asked. Raises StoreError."""
        begin = int(row["offset"])
        end = begin + int(row["height"]) * int(row["width"])
        slot = int(row["slot"])
        if begin >= end or end > len(self.cells) or (self.pooled is not None and slot >= len(self.pooled)):
            raise StoreError(
                f"{self.path}: damaged: the index places a grid at cells {begin} to {end} of {len(self.cells)}"
            )
        if checksum:
            value = zlib.crc32(np.ascontiguousarray(self.cells[begin:end]).view(np.uint8).data)
            if self.boxes is not None:
                value = zlib.crc32(self.boxes[begin:end].view(np.uint8).data, value)
            if self.pooled is not None:
                value = zlib.crc32(self.pooled[slot].view(np.uint8).data, value)
            if value != int(row["checksum"]):
                raise StoreError(f"{self.path}: damaged: the record at cell {begin} fails its checksum")
        return begin, end

    def raw(self, row: RowValue) -> tuple[bytes, bytes, bytes]:
        """The bytes of a record, grid, pooled and boxes, compared with its checksum."""
        begin, end = self.check(row, checksum=True)
        pooled = self.pooled[int(row["slot"])].tobytes() if self.pooled is not None else b""
        boxes = self.boxes[begin:end].tobytes() if self.boxes is not None else b""
        return self.cells[begin:end].tobytes(), pooled, boxes


def load_shard_index(folder: Path, shard: int, manifest: Manifest) -> Index:
    """The index of a shard, checked against the manifest. Raises StoreError."""
    path = layout.shard_index(folder, shard)
    index = Index.load(path)
    if shard >= manifest.shards or len(index) != manifest.shard_length(shard):
        raise StoreError(f"{path}: damaged: {len(index)} pictures do not fit the manifest")
    if (index.rows["shard"] != shard).any() or len(np.unique(index.rows["generation"])) != 1:
        raise StoreError(f"{path}: damaged: it describes another shard")
    if (index.rows["status"] >= len(STATUSES)).any():
        raise StoreError(f"{path}: damaged: it holds a status that does not exist")
    return index


def failures_of(index: Index) -> list[Failure]:
    """The failures a shard's index lists."""
    try:
        text = index.failures.decode("utf-8")
    except UnicodeDecodeError:
        raise StoreError(f"{index.where}: damaged: its list of failures is not UTF-8") from None
    return [Failure.from_line(line, where=index.where) for line in text.split("\n") if line]


def generation_of(index: Index) -> int:
    """Which data file the rows of a shard's index point at."""
    return int(index.rows["generation"][0]) if len(index) else 0


def statuses(rows: Sequence[RowValue] | np.ndarray[Any, Any]) -> Mapping[str, int]:
    """How many rows have each status."""
    numbers, counts = np.unique(np.asarray(rows)["status"], return_counts=True)
    return {STATUSES[int(number)]: int(count) for number, count in zip(numbers, counts, strict=True)}
