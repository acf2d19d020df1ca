"""The index of a feature store: id -> where its record lies, found in a memory map without reading the rest.

One file layout serves the index of a shard and the merged index of the whole store (safetensors):

    hashes    U64 [n]      64-bit hashes of the ids, ascending
    id_ends   U64 [n]      end of each id in `id_bytes`, in row order
    order     U32 [n]      row of each hash
    rows      U32 [n, 18]  one row a picture in source order, fields of `ROW` (the four of the box are signed)
    id_bytes  U8  [...]    the ids, UTF-8, one after another
    failures  U8  [...]    JSON lines of the pictures that failed (a shard's index; empty in the merged one)
    generations U32 [s]    which file holds each shard (merged index; empty in a shard's)

A look-up is a binary search among the hashes and a comparison of the id itself, so an index opens in the time of one
`mmap` whatever its size. Every row carries a checksum of itself, checked whenever it is used.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from clipvil.errors import StoreError
from clipvil.features.tensorfile import TensorFile, write_tensors

ROW = np.dtype(
    [
        ("id_hash", "<u8"),
        ("shard", "<u4"),
        ("generation", "<u4"),  # which file of the shard: 0, and one more at each retry that recovered pictures
        ("status", "<u4"),  # a position in STATUSES
        ("offset", "<u4"),  # first cell in the shard's `cells`
        ("height", "<u4"),  # rows of the grid
        ("width", "<u4"),  # columns of the grid
        ("slot", "<u4"),  # row in the shard's `pooled`
        ("original_height", "<u4"),  # pixels of the picture as decoded and turned upright; 0: unknown (imported)
        ("original_width", "<u4"),
        ("box_top", "<i4"),  # where the picture lies on the encoder's canvas, in pixels; negative where it was cropped
        ("box_left", "<i4"),
        ("box_height", "<i4"),
        ("box_width", "<i4"),
        ("checksum", "<u4"),  # crc32 of the record: the bytes of its grid, its boxes, its pooled vector
        ("reserved", "<u4"),  # 0; keeps rows a multiple of 8 bytes
        ("row_checksum", "<u4"),  # crc32 of all the bytes above
    ]
)
STATUSES = (
    "ok", "missing", "unreadable", "empty", "unsupported", "truncated", "too_large", "corrupt", "error",
    "duplicate", "misshapen", "not_finite",
)  # fmt: skip
"""Rows hold positions in this list, so new ones go to its end."""

RowArray = np.ndarray[Any, np.dtype[Any]]


def id_hash(image_id: str) -> int:
    """The 64-bit hash of an id (BLAKE2b)."""
    return int.from_bytes(hashlib.blake2b(encode_id(image_id), digest_size=8).digest(), "little")


def encode_id(image_id: str) -> bytes:
    """UTF-8; file names that are not UTF-8 keep their bytes."""
    return image_id.encode("utf-8", "surrogateescape")


def seal(rows: RowArray) -> RowArray:
    """Write the checksum of each row into it; returns the same array."""
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), ROW.itemsize)
    for number, row in enumerate(raw):
        rows["row_checksum"][number] = zlib.crc32(row[:-4].tobytes())
    return rows


class Index:
    """Rows of pictures and the way from an id to its row. Build one, load one, or merge those of all shards."""

    def __init__(
        self,
        *,
        where: str,
        rows: RowArray,
        id_ends: RowArray,
        id_bytes: RowArray,
        hashes: RowArray,
        order: RowArray,
        failures: bytes = b"",
        generations: Sequence[int] = (),
    ) -> None:
        self.where = where
        self.rows, self.id_ends, self.id_bytes, self.hashes, self.order = rows, id_ends, id_bytes, hashes, order
        self.failures, self.generations = failures, tuple(generations)

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def build(cls, ids: Sequence[str], rows: RowArray, *, where: str, failures: bytes = b"") -> Index:
        """An index of new rows; fills in their id hashes and checksums. Raises StoreError on a repeated id."""
        names = [encode_id(image_id) for image_id in ids]
        rows["id_hash"] = np.fromiter((id_hash(image_id) for image_id in ids), "<u8", len(ids))
        id_ends = np.cumsum(np.fromiter(map(len, names), "<u8", len(names)), dtype="<u8")
        id_bytes = np.frombuffer(b"".join(names), np.uint8)
        return cls._sorted(where, seal(rows), id_ends, id_bytes, failures)

    @classmethod
    def merge(cls, parts: Iterable[Index], *, where: str, generations: Sequence[int]) -> Index:
        """One index of all the rows of `parts`, in their order. Raises StoreError when two parts share an id."""
        parts = list(parts)
        lengths = np.array([len(part.id_bytes) for part in parts], "<u8")
        shifts = np.concatenate([np.zeros(1, "<u8"), np.cumsum(lengths, dtype="<u8")])
        none = np.zeros(0, "<u8")
        ends = [part.id_ends + shift for part, shift in zip(parts, shifts, strict=False)]
        return cls._sorted(
            where,
            np.concatenate([np.zeros(0, ROW), *(part.rows for part in parts)]),
            np.concatenate([none, *ends]).astype("<u8"),
            np.concatenate([np.zeros(0, np.uint8), *(part.id_bytes for part in parts)]),
            generations=generations,
        )

    @classmethod
    def _sorted(
        cls,
        where: str,
        rows: RowArray,
        id_ends: RowArray,
        id_bytes: RowArray,
        failures: bytes = b"",
        generations: Sequence[int] = (),
    ) -> Index:
        order = np.argsort(rows["id_hash"], kind="stable").astype("<u4")
        hashes = rows["id_hash"][order]
        index = cls(
            where=where,
            rows=rows,
            id_ends=id_ends,
            id_bytes=id_bytes,
            hashes=hashes,
            order=order,
            failures=failures,
            generations=generations,
        )
        for position in np.flatnonzero(hashes[1:] == hashes[:-1]):
            # Equal hashes are nearly always equal ids; a true collision is told apart by `find`.
            names = [index.id(int(order[position])), index.id(int(order[position + 1]))]
            if names[0] == names[1]:
                raise StoreError(f"{where}: the picture id {names[0]!r} occurs twice; ids must be unique")
        return index

    @classmethod
    def load(cls, path: Path) -> Index:
        """Map an index file. Raises StoreError where its parts do not fit each other."""
        file = TensorFile(path)
        rows = file.array("rows", "U32", (None, ROW.itemsize // 4))
        count = len(rows)
        index = cls(
            where=str(path),
            rows=rows.view(ROW).reshape(count),
            id_ends=file.array("id_ends", "U64", (count,)),
            id_bytes=file.array("id_bytes", "U8", (None,)),
            hashes=file.array("hashes", "U64", (count,)),
            order=file.array("order", "U32", (count,)),
            failures=file.array("failures", "U8", (None,)).tobytes(),
            generations=file.array("generations", "U32", (None,)).tolist(),
        )
        if (int(index.id_ends[-1]) if count else 0) != len(index.id_bytes):
            raise StoreError(f"{path}: damaged: the ids do not fill their table")
        return index

    def write(self, stream: IO[bytes]) -> None:
        """Write the index as a file that `load` reads."""
        table = np.ascontiguousarray(self.rows).view("<u4").reshape(len(self.rows), ROW.itemsize // 4)
        arrays = {
            "hashes": self.hashes,
            "id_ends": self.id_ends,
            "order": self.order,
            "rows": table,
            "generations": np.array(self.generations, "<u4"),
            "id_bytes": self.id_bytes,
            "failures": np.frombuffer(self.failures, np.uint8),
        }
        write_tensors(stream, arrays, {"format": "clipvil-index"})

    def id(self, row: int) -> str:
        """The id of a row; raises StoreError where the index is damaged."""
        begin, end = int(self.id_ends[row - 1]) if row else 0, int(self.id_ends[row])
        if not begin <= end <= len(self.id_bytes):
            raise StoreError(f"{self.where}: damaged: the id of row {row} lies outside the file")
        return self.id_bytes[begin:end].tobytes().decode("utf-8", "surrogateescape")

    def find(self, ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The row of each id, -1 where there is none."""
        wanted = np.fromiter((id_hash(image_id) for image_id in ids), "<u8", len(ids))
        first = np.searchsorted(self.hashes, wanted)
        found = np.full(len(ids), -1, np.int64)
        for number, image_id in enumerate(ids):
            position = int(first[number])
            while position < len(self.hashes) and self.hashes[position] == wanted[number]:
                row = int(self.order[position])
                if row >= len(self.rows):
                    raise StoreError(f"{self.where}: damaged: the hash table points at row {row} of {len(self.rows)}")
                if self.id(row) == image_id:
                    found[number] = row
                    break
                position += 1
        return found

    def take(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> RowArray:
        """A copy of the rows asked for, each compared with its checksum; raises StoreError on a damaged one."""
        rows = self.rows[numbers]
        raw = rows.view(np.uint8).reshape(len(rows), ROW.itemsize)
        for number, row in enumerate(raw):
            if zlib.crc32(row[:-4].tobytes()) != int(rows["row_checksum"][number]):
                raise StoreError(f"{self.where}: damaged: row {int(numbers[number])} fails its checksum")
        return rows

    def check(self) -> None:
        """Read the whole index and raise StoreError at the first thing that cannot be: for `verify`."""
        if len(self) == 0:
            return
        self.take(np.arange(len(self)))
        if (self.hashes[1:] < self.hashes[:-1]).any() or (self.id_ends[1:] < self.id_ends[:-1]).any():
            raise StoreError(f"{self.where}: damaged: its tables are not in order")
        if not np.array_equal(np.sort(self.order), np.arange(len(self), dtype="<u4")):
            raise StoreError(f"{self.where}: damaged: the hash table does not cover every row once")
        if not np.array_equal(self.rows["id_hash"][self.order], self.hashes):
            raise StoreError(f"{self.where}: damaged: hashes and rows disagree")
        for row in range(len(self)):
            if id_hash(self.id(row)) != int(self.rows["id_hash"][row]):
                raise StoreError(f"{self.where}: damaged: the id of row {row} is not the one it was written with")
