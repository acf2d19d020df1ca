"""The feature store: random access to grids by picture id, memory-mapped, safe across processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.base import GridBatch
from clipvil.features.finalise import finalise, merged_index
from clipvil.features.index import STATUSES, Index, RowArray
from clipvil.features.manifest import load_manifest
from clipvil.features.shard import Failure, ShardReader, failures_of, load_shard_index

OK = STATUSES.index("ok")
_HELD = 1 << 26
"""Bytes of records that a process reads before it lets go of the mapped pages: without that, a long training comes to
hold the whole store, and a limit on its memory counts that."""


@dataclass(frozen=True)
class Features:
    """What the store keeps of one picture.

    grid (h, w, C) and pooled (D,) or None, in the store's dtype, copied out of the file; original_size (h, w) of the
    picture and box (top, left, height, width) of the region of the encoder's canvas that holds it, in pixels. Of
    regions, grid is (N, 1, C) and boxes (N, 4) float32: x1, y1, x2, y2 in pixels of the picture, where they are known.
    """

    grid: Tensor
    pooled: Tensor | None
    original_size: tuple[int, int]
    box: tuple[int, int, int, int]
    boxes: Tensor | None = None


@dataclass(frozen=True)
class Lacking:
    """Of the pictures asked for, those without features: `failed` says why (a status), `unknown` were never in it."""

    failed: dict[str, str]
    unknown: list[str]


class Store:
    """A folder of features, opened for reading. Opens in milliseconds whatever its size; implements FeatureSource.

    Files are mapped when first needed and per process, so a store may be pickled, or inherited by forked workers.
    `check=True` compares the checksum of every record read. A store whose extraction is not finished can be read as
    far as it goes. All damage raises StoreError. Format: docs/feature-store.md.
    """

    def __init__(self, path: str | Path, *, check: bool = False) -> None:
        self.path, self.check = Path(path), check
        self.manifest = load_manifest(self.path)
        self.spec = self.manifest.spec
        self._index_cache: Index | None = None
        self._usable: int | None = None
        self._readers: dict[tuple[int, int], ShardReader] = {}
        self._touched = 0
        # A map holds a file descriptor; a store of thousands of shards must not use up those of the process.
        self._limit = max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    @classmethod
    def open(cls, path: str | Path, *, check: bool = False) -> Store:
        """Open a store. Raises StoreError where there is none or its manifest is damaged."""
        return cls(path, check=check)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "check": self.check}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], check=state["check"])  # type: ignore[misc]

    @property
    def complete(self) -> bool:
        """Whether all the pictures that were asked for have been dealt with."""
        return len(self._index) == self.manifest.total

    @property
    def _index(self) -> Index:
        if self._index_cache is None:
            self._index_cache = self._load_index()
        return self._index_cache

    def _load_index(self) -> Index:
        path = self.path / layout.INDEX
        if not path.exists():
            # Several machines may have ended at the same moment, each thinking that another would join the shards.
            # A store on a read-only disk is joined in memory instead.
            with contextlib.suppress(OSError):
                finalise(self.path, self.manifest)
        if not path.exists():
            return merged_index(self.path, self.manifest)[0]
        index = Index.load(path)
        if len(index) != self.manifest.total or len(index.generations) != self.manifest.shards:
            raise StoreError(f"{path}: damaged: {len(index)} pictures here, {self.manifest.total} in the manifest")
        return index

    def __len__(self) -> int:
        if self._usable is None:
            self._usable = int(np.count_nonzero(self._index.rows["status"] == OK))
        return self._usable

    def __contains__(self, image_id: object) -> bool:
        if not isinstance(image_id, str):
            return False
        row = int(self._index.find([image_id])[0])
        return row >= 0 and int(self._index.rows["status"][row]) == OK

    def ids(self) -> list[str]:
        """Ids of the pictures with usable features, in the order of the source."""
        return [self._index.id(int(row)) for row in np.flatnonzero(self._index.rows["status"] == OK)]

    def lacking(self, image_ids: Sequence[str]) -> Lacking:
        """Which of these pictures have no features here, in the order asked, and whether they failed or never came."""
        failed, unknown = {}, []
        found = self._index.find(image_ids)
        status = self._index.rows["status"]
        for image_id, row in zip(image_ids, found.tolist(), strict=True):
            if row < 0:
                unknown.append(image_id)
            elif (code := int(status[row])) != OK:
                failed[image_id] = STATUSES[code] if code < len(STATUSES) else "damaged"
        return Lacking(failed, unknown)

    def rows(self) -> RowArray:
        """The index, one row a picture in the order of the source; fields of `clipvil.features.index.ROW`."""
        return self._index.rows

    def content(self) -> str:
        """A hash (hex, 16 digits) of what the store holds: ids and checksums of all records, read from the index."""
        index, digest = self._index, hashlib.blake2b(digest_size=8)
        for part in (index.rows["id_hash"], index.rows["status"], index.rows["checksum"]):
            digest.update(np.ascontiguousarray(part).tobytes())
        for name in ("height", "width", "original_height", "original_width"):
            digest.update(np.ascontiguousarray(index.rows[name]).tobytes())
        digest.update(self.manifest.dtype.encode())
        return digest.hexdigest()

    def failures(self) -> list[Failure]:
        """The pictures without features, in the order of the source, each with its reason."""
        shards = layout.shards_present(self.path)
        parts = (load_shard_index(self.path, shard, self.manifest) for shard in shards)
        return [failure for part in parts for failure in failures_of(part)]

    def missing_files(self) -> list[Path]:
        """Data files that the index counts on and that are not there. Looks at names alone; `verify` reads them."""
        rows = self._index.rows
        needed = np.unique(rows[rows["status"] == OK][["shard", "generation"]])
        files = (layout.shard_data(self.path, int(shard), int(generation)) for shard, generation in needed)
        return [file for file in files if not file.is_file()]

    def cost(self) -> dict[str, Any]:
        """What the extraction cost (`cost.json`): pictures_per_second, parameters, gflops, bytes_per_picture …

        Empty where it was not recorded.
        """
        path = self.path / layout.COST
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            raise StoreError(f"{path}: damaged: not JSON; delete it, the features do not depend on it") from None
        return value if isinstance(value, dict) else {}

    def __getitem__(self, image_id: str) -> Features:
        row = self._rows([image_id])[0]
        begin, end, reader = self._locate(row)
        shape = (int(row["height"]), int(row["width"]), -1)
        grid = self._tensor(reader.cells[begin:end]).clone().view(shape)
        pooled = self._tensor(reader.pooled[int(row["slot"])]).clone() if reader.pooled is not None else None
        size = (int(row["original_height"]), int(row["original_width"]))
        box = (int(row["box_top"]), int(row["box_left"]), int(row["box_height"]), int(row["box_width"]))
        boxes = torch.from_numpy(np.array(reader.boxes[begin:end])) if reader.boxes is not None else None
        return Features(grid, pooled, size, box, boxes)

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """Grids of pictures in the order asked, float32, padded with zeros; a repeated id is read once.

        cells (B, N, C), mask (B, N) or None where all shapes agree, shapes (B, 2), pooled (B, D) or None, boxes
        (B, N, 4) or None.
        Raises StoreError naming a picture that is absent or failed.
        """
        unique = list(dict.fromkeys(image_ids))
        rows = self._rows(unique)
        lengths = rows["height"].astype(np.int64) * rows["width"]
        channels = self.manifest.encoder.grid_channels
        same = len(np.unique(rows[["height", "width"]])) <= 1
        longest = int(lengths.max()) if len(rows) else 0
        cells = torch.empty(len(rows), longest, channels)
        pooled: Tensor | None = None
        if self.manifest.encoder.pooled_channels:
            pooled = torch.empty(len(rows), self.manifest.encoder.pooled_channels)
        boxes = torch.zeros(len(rows), longest, 4) if self.manifest.cells == "boxes" else None
        # In file order, so that a disk reads forward.
        for number in np.lexsort((rows["offset"], rows["shard"])):
            row = rows[number]
            begin, end, reader = self._locate(row)
            cells[number, : end - begin] = self._tensor(reader.cells[begin:end])
            cells[number, end - begin :] = 0
            if pooled is not None and reader.pooled is not None:
                pooled[number] = self._tensor(reader.pooled[int(row["slot"])])
            if boxes is not None and reader.boxes is not None:
                # Divided here, where the picture's size is at hand; models see shares of the picture.
                size = np.array([row["original_width"], row["original_height"]] * 2, np.float32)
                boxes[number, : end - begin] = torch.from_numpy(reader.boxes[begin:end] / np.maximum(size, 1))
        shapes = torch.from_numpy(np.stack([rows["height"], rows["width"]], 1).astype(np.int64))
        mask = None if same else torch.arange(longest)[None] < torch.from_numpy(lengths)[:, None]
        if len(unique) == len(image_ids):
            return GridBatch(cells, mask, shapes, pooled, boxes)
        place = {image_id: number for number, image_id in enumerate(unique)}
        again = torch.tensor([place[image_id] for image_id in image_ids])
        return GridBatch(
            cells[again],
            mask[again] if mask is not None else None,
            shapes[again],
            pooled[again] if pooled is not None else None,
            boxes[again] if boxes is not None else None,
        )

    def pooled(self, image_ids: Sequence[str]) -> Tensor | None:
        """Pooled vectors (B, D) float32 in the order asked, without reading a grid; None where the store keeps none.

        Raises StoreError naming a picture that is absent or failed.
        """
        channels = self.manifest.encoder.pooled_channels
        if not channels:
            return None
        out = torch.empty(len(image_ids), channels)
        rows = self._rows(image_ids)
        for number in np.lexsort((rows["offset"], rows["shard"])):
            row = rows[number]
            _, _, reader = self._locate(row)
            if reader.pooled is None:
                return None
            out[number] = self._tensor(reader.pooled[int(row["slot"])])
        return out

    def frames(self, image_ids: Sequence[str]) -> Tensor:
        """Where whole pictures lie on their grids: (B, 4) float32, left, top, right, bottom as shares of the grid.

        Beyond 0..1 where the resize policy cropped; all of the grid where that is not known, as of imported features.
        Raises StoreError naming a picture that is absent or failed.
        """
        rows = self._rows(image_ids)
        out = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(rows), 1)
        stride = self.manifest.encoder.stride
        if not stride or self.manifest.cells != "grid":
            return out
        for number, row in enumerate(rows):
            sides = np.array([row["width"], row["height"]], np.float64) * stride
            start = np.array([row["box_left"], row["box_top"]], np.float64)
            size = np.array([row["box_width"], row["box_height"]], np.float64)
            if size.min() > 0:
                out[number] = torch.from_numpy(np.concatenate([start / sides, (start + size) / sides]))
        return out

    def _rows(self, image_ids: Sequence[str]) -> RowArray:
        """Rows of usable pictures; raises StoreError naming the first that is absent or failed."""
        found = self._index.find(image_ids)
        for image_id, number in zip(image_ids, found, strict=True):
            if number < 0:
                unfinished = "" if self.complete else "; its extraction is not finished, run the same command again"
                raise StoreError(f"{self.path}: no features of picture {image_id!r}{unfinished}")
        rows = self._index.take(found)
        for image_id, row in zip(image_ids, rows, strict=True):
            if row["status"] != OK:
                status = STATUSES[row["status"]] if row["status"] < len(STATUSES) else "damaged"
                raise StoreError(f"{self.path}: picture {image_id!r} has no features: {status}; see {layout.FAILURES}")
        return rows

    def _locate(self, row: np.void) -> tuple[int, int, ShardReader]:
        key = (int(row["shard"]), int(row["generation"]))
        # Taken out and put back: the dictionary stays in the order of use, and another thread at worst maps twice.
        reader = self._readers.pop(key, None) or ShardReader(self.path, *key, self.manifest)
        self._readers[key] = reader
        while len(self._readers) > self._limit:
            self._readers.pop(next(iter(self._readers)), None)
        begin, end = reader.check(row, checksum=self.check)
        self._touched += (end - begin) * reader.cells.itemsize * reader.cells.shape[1]
        if self._touched > _HELD:
            self._touched = 0
            for mapped in list(self._readers.values()):
                mapped.release()
        return begin, end, reader

    def _tensor(self, values: np.ndarray[Any, Any]) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.view(torch.bfloat16) if self.manifest.dtype == "bfloat16" else tensor
