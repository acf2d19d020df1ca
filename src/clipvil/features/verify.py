"""`clipvil features verify`: reads every byte of a store and reports whatever is not as it was written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.finalise import merged_index
from clipvil.features.index import STATUSES, Index
from clipvil.features.manifest import Manifest, load_manifest
from clipvil.features.shard import ShardReader, failures_of, generation_of, load_shard_index


@dataclass
class Report:
    """What `verify` found: `problems`, one line each, and what the sound part holds."""

    path: str
    pictures: int = 0
    failed: int = 0
    shards: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the store is complete and sound."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "ok": self.ok}


def verify(path: str | Path) -> Report:
    """Check manifest, indices, data and checksums of a whole store, reading all of it; never raises on damage."""
    folder = Path(path)
    report = Report(str(folder))
    try:
        manifest = load_manifest(folder)
        present = layout.shards_present(folder)
    except StoreError as error:
        report.problems.append(str(error))
        return report
    for shard in present:
        try:
            _check_shard(folder, shard, manifest, report)
        except StoreError as error:
            report.problems.append(str(error))
    missing = manifest.shards - len(present)
    if missing > 0:
        report.problems.append(
            f"{folder}: incomplete: {missing} of {manifest.shards} shards are missing; run the same command again"
        )
    if not report.problems:
        try:
            _check_joined(folder, manifest, report)
        except StoreError as error:
            report.problems.append(str(error))
    return report


def _check_shard(folder: Path, shard: int, manifest: Manifest, report: Report) -> None:
    index = load_shard_index(folder, shard, manifest)
    index.check()
    failed = {failure.id for failure in failures_of(index)}
    bad = np.flatnonzero(index.rows["status"] != STATUSES.index("ok"))
    if failed != {index.id(int(row)) for row in bad} or len(failed) != len(bad):
        raise StoreError(f"{index.where}: damaged: its list of failures does not fit its rows")
    reader = ShardReader(folder, shard, generation_of(index), manifest)
    good = index.rows[index.rows["status"] == STATUSES.index("ok")]
    position = 0
    for row in good[np.argsort(good["offset"], kind="stable")]:
        begin, position_after = reader.check(row, checksum=True)
        if begin != position:
            raise StoreError(f"{reader.path}: damaged: a record begins at cell {begin}, expected {position}")
        position = position_after
    slots = [] if reader.pooled is None else sorted(good["slot"].tolist())
    if position != len(reader.cells) or (reader.pooled is not None and slots != list(range(len(reader.pooled)))):
        raise StoreError(f"{reader.path}: damaged: it holds records that the index does not know")
    report.shards += 1
    report.pictures += len(good)
    report.failed += len(bad)
    report.bytes += reader.path.stat().st_size


def _check_joined(folder: Path, manifest: Manifest, report: Report) -> None:
    path = folder / layout.INDEX
    if not path.exists():
        raise StoreError(f"{folder}: all shards are there but not joined; open the store once, or run extract again")
    index, expected, failures = Index.load(path), *merged_index(folder, manifest)[:2]
    index.check()
    same = index.generations == expected.generations and all(
        np.array_equal(getattr(index, name), getattr(expected, name)) for name in ("rows", "id_bytes", "id_ends")
    )
    if not same:
        raise StoreError(f"{path}: does not agree with the indices of the shards; delete it and run extract again")
    try:
        listed = (folder / layout.FAILURES).read_bytes()
    except OSError:
        listed = b""
    if listed != failures:
        raise StoreError(
            f"{folder / layout.FAILURES}: does not agree with the shards; delete {path.name} and open again"
        )
