"""Taking down what an extraction produces, shard after shard, in the writer's thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clipvil.encoders.base import Encoded
from clipvil.errors import EncoderError, StoreError
from clipvil.features import layout
from clipvil.features.batches import Bad, Batch
from clipvil.features.finalise import unfinalise
from clipvil.features.index import STATUSES, Index
from clipvil.features.manifest import Manifest
from clipvil.features.shard import (
    Failure,
    Placement,
    ShardReader,
    ShardWriter,
    failures_of,
    generation_of,
    load_shard_index,
)


class Recorder:
    """Writes batches and failures into shards; a shard is begun by its first result and ended by `end`.

    A shard that exists already is being retried: its good records are copied, as bytes, into a new file in front of the
    recovered ones, and the new index takes the place of the old one in a single rename. Where nothing changed the
    shard is left alone. `stored` and `failed` count this run's pictures.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.stored = self.failed = self.bytes = 0
        self._writer: ShardWriter | None = None
        self._bad: list[Bad] = []

    def batch(self, batch: Batch, encoded: Encoded) -> None:
        """Write the records of a batch."""
        self._check(encoded, len(batch.positions))
        writer = self._open(batch.shard)
        shape = (int(encoded.grid.shape[1]), int(encoded.grid.shape[2]))
        for number, position in enumerate(batch.positions):
            grid = _bytes(encoded.grid[number])
            pooled = b""
            if self.manifest.encoder.pooled_channels and encoded.pooled is not None:
                pooled = _bytes(encoded.pooled[number]).tobytes()
            writer.add(position, batch.placements[number], shape, grid, pooled)
            self.bytes += grid.nbytes + len(pooled)
        self.stored += len(batch.positions)

    def ready(
        self,
        shard: int,
        position: int,
        placement: Placement,
        grid: Tensor,
        pooled: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> None:
        """Write features that were computed elsewhere: grid (h, w, C) and pooled (D,) in the store's dtype.

        `boxes` (h * w, 4) float32 where the store keeps them.
        """
        shape = (int(grid.shape[0]), int(grid.shape[1]))
        parts = [b"" if tensor is None else _bytes(tensor).tobytes() for tensor in (pooled, boxes)]
        self._open(shard).add(position, placement, shape, _bytes(grid), *parts)
        self.stored += 1

    def bad(self, bad: Bad) -> None:
        """Note a picture that cannot be used; written when the shard ends."""
        self._bad.append(bad)
        self.failed += 1

    def end(self, shard: int) -> None:
        """Complete the shard: from here on it is visible."""
        before = self._existing(shard)
        if before is not None and self._writer is None and self._unchanged(before):
            self._bad.clear()
            return
        writer = self._open(shard)
        for bad in self._bad:
            writer.fail(bad.position, bad.failure)
        # The joined index describes the old file of a retried shard; a reader then joins the shards anew.
        unfinalise(self.folder)
        writer.commit()
        if before is not None:
            layout.shard_data(self.folder, shard, generation_of(before)).unlink(missing_ok=True)
        self._writer = None
        self._bad.clear()

    def abort(self) -> None:
        """Drop the shard that is being written."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    def _open(self, shard: int) -> ShardWriter:
        if self._writer is None:
            before = self._existing(shard)
            generation = 0 if before is None else generation_of(before) + 1
            self._writer = ShardWriter(self.folder, shard, self.manifest, generation=generation)
            if before is not None:
                self._copy_good(before, shard)
        return self._writer

    def _copy_good(self, before: Index, shard: int) -> None:
        assert self._writer is not None
        reader = ShardReader(self.folder, shard, generation_of(before), self.manifest)
        good = np.flatnonzero(before.rows["status"] == STATUSES.index("ok"))
        for position in good[np.argsort(before.rows["offset"][good], kind="stable")]:
            row = before.rows[position]
            size = (int(row["original_height"]), int(row["original_width"]))
            box = (int(row["box_top"]), int(row["box_left"]), int(row["box_height"]), int(row["box_width"]))
            shape = (int(row["height"]), int(row["width"]))
            placement = Placement(before.id(int(position)), size, box)
            self._writer.add(int(position), placement, shape, *reader.raw(row))

    def _existing(self, shard: int) -> Index | None:
        """The index of a sound shard that is there already."""
        return sound_shard(self.folder, shard, self.manifest)

    def _unchanged(self, before: Index) -> bool:
        now: list[Failure] = [bad.failure for bad in sorted(self._bad, key=lambda bad: bad.position)]
        return now == failures_of(before)

    def _check(self, encoded: Encoded, count: int) -> None:
        entry = self.manifest.encoder
        grid = encoded.grid
        if grid.ndim != 4 or len(grid) != count or grid.shape[-1] != entry.grid_channels:
            raise EncoderError(
                f"{entry.name} gave grids of shape {tuple(grid.shape)} (B, h, w, C) for {count} pictures and "
                f"{entry.grid_channels} channels"
            )
        for name, tensor in (("grid", grid), ("pooled vector", encoded.pooled)):
            if tensor is None or bool(torch.isfinite(tensor).all()):
                continue
            raise EncoderError(
                f"{entry.name}: a {name} holds values that {self.manifest.dtype} cannot (infinite or not a number); "
                "try --dtype bfloat16 or float32, or --precision fp32"
            )


def sound_shard(folder: Path, shard: int, manifest: Manifest) -> Index | None:
    """The index of a shard whose files are whole; None where it is absent or must be made again."""
    if not layout.shard_index(folder, shard).exists():
        return None
    try:
        index = load_shard_index(folder, shard, manifest)
        ShardReader(folder, shard, generation_of(index), manifest)
    except StoreError:
        return None
    return index


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().view(torch.uint8).reshape(-1).numpy().data
