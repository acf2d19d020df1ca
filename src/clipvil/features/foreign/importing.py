"""Features that somebody else computed, brought into a store: resumable, one record in memory at a time."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from clipvil.encoders.base import CellKind
from clipvil.errors import DataError, FeatureError, StoreError, UsageError
from clipvil.features import layout
from clipvil.features.batches import Bad, Work, attempt, decode_ahead
from clipvil.features.extract import default_workers
from clipvil.features.foreign.base import ForeignItem, ForeignRecord, ForeignSource, Options
from clipvil.features.foreign.registry import open_foreign
from clipvil.features.locked import create_once
from clipvil.features.manifest import DTYPES, DType, EncoderEntry, Manifest, PrecisionEntry, items_digest, load_manifest
from clipvil.features.outcome import clear_disk_errors, conclude
from clipvil.features.plan import SHARD_SIZE, MaxBad, Slice, list_work, prepare_folder, reconcile, remove_orphans
from clipvil.features.recording import Recorder
from clipvil.features.shard import Failure, Placement
from clipvil.progress import Progress
from clipvil.progress import progress as show_progress

IMPORTED = "imported"
"""What the manifest says of layer, positions, resize policy and precision, which the files do not tell."""
_TORCH: dict[str, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_EXACT = {(torch.float16, torch.float32), (torch.bfloat16, torch.float32)}
_PROBED = 8


@dataclass
class ImportReport:
    """What one run of `import_features` did; fields as in `clipvil.features.extract.ExtractReport`."""

    store: Path
    done: int = 0
    skipped: int = 0
    failed: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    complete: bool = False
    exit_code: int = 0

    def line(self) -> str:
        """The outcome in one line."""
        parts = [f"{self.store}: {self.done} pictures imported"]
        if self.skipped:
            parts.append(f"{self.skipped} were there already")
        if self.failed:
            reasons = ", ".join(f"{count} {name}" for name, count in sorted(self.reasons.items()))
            parts.append(f"{self.failed} failed ({reasons}; see {layout.FAILURES})")
        parts.append("complete" if self.complete else "other slices are still to come")
        return ", ".join(parts)


@dataclass(frozen=True)
class _Traits:
    """What the records of one source share."""

    dtype: torch.dtype
    channels: int
    pooled: int | None
    cells: CellKind


def import_features(
    source: str | Path,
    *,
    format: str,
    encoder_name: str,
    out: str | Path,
    options: Options | None = None,
    dtype: DType | None = None,
    shard: str = "1/1",
    shard_size: int | None = None,
    workers: int | None = None,
    max_bad: int | float | str | None = None,
    retry_failed: bool = False,
    progress: bool = True,
) -> ImportReport:
    """Bring the feature files `source` into the store `out`, or go on where an earlier run stopped.

    `format` is one of `registry.FORMATS`; `options` say what it cannot itself. `encoder_name` is what results call the
    encoder: two imports of one name, format and layout count as the same encoder. Values keep the type that most of
    the first files have, and nothing is rounded; `dtype` asks for another one, rounding where it must. Inputs that
    cannot be used stand in failures.jsonl. `shard`, `shard_size`, `workers` (reading threads), `max_bad`,
    `retry_failed`: as for `clipvil.features.extract.extract`.

    Raises UsageError, DataError (nothing there that can be read), StoreError (the store holds other features, the disk
    is full). Whatever happens, what is complete stays, and the same call goes on from there.
    """
    part, allowed, chosen = Slice.parse(shard), MaxBad.parse(max_bad), options or Options()
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"unknown dtype '{dtype}'; known: {', '.join(DTYPES)}")
    if not encoder_name.strip() or not encoder_name.isprintable():
        raise UsageError("--encoder-name must name the encoder in a few printable characters")
    opened, folder = open_foreign(format, Path(source), chosen), Path(out)
    traits = _probe(opened)
    with clear_disk_errors(folder):
        existing = prepare_folder(folder)
        size = shard_size or (existing.shard_size if existing else SHARD_SIZE)
        wanted = _manifest(opened, traits, encoder_name, _identity(encoder_name, format, chosen), dtype, size)
        manifest = _settle(folder, existing, wanted)
        remove_orphans(folder, manifest, part)
        work = list_work(folder, manifest, opened, part, retry=retry_failed)
        recorder, prepare = Recorder(folder, manifest), _Prepare(manifest, exact=dtype is None)
        count = sum(len(unit.positions) for unit in work)
        threads = min(4, default_workers()) if workers is None else workers
        with show_progress(count, "import", unit="pictures", quiet=not (progress and work)) as bar:
            _run(work, prepare, recorder, threads, bar)
        ended = conclude(folder, manifest, part, allowed)
    report = ImportReport(folder, recorder.stored, ended.usable - recorder.stored, ended.failed, ended.reasons)
    report.complete, report.exit_code = ended.complete, ended.exit_code
    if progress:
        print(report.line(), file=sys.stderr, flush=True)
    return report


def _run(work: Sequence[Work[ForeignItem]], prepare: _Prepare, recorder: Recorder, threads: int, bar: Progress) -> None:
    items = (unit.item(position) for unit in work for position in unit.positions)
    read: Iterator[tuple[ForeignItem, ForeignRecord | Failure]] = decode_ahead(
        items, prepare, workers=threads, ahead=2 * max(threads, 1)
    )
    try:
        for unit in work:
            # The positions first: `zip` would otherwise take, and lose, one record of the next shard.
            for position, (item, record) in zip(unit.positions, read, strict=False):
                if isinstance(record, Failure):
                    recorder.bad(Bad(unit.shard, position, record))
                else:
                    placement = Placement(item.image_id, record.size, (0, 0, 0, 0))
                    recorder.ready(unit.shard, position, placement, record.grid, record.pooled, record.boxes)
                bar.update(1)
            recorder.end(unit.shard)
    except BaseException:
        recorder.abort()
        raise
    finally:
        read.close()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Prepare:
    """Reads a record and makes it fit the store, or raises FeatureError."""

    manifest: Manifest
    exact: bool

    def __call__(self, item: ForeignItem) -> ForeignRecord:
        record, entry = item.read(), self.manifest.encoder
        if record.cells != self.manifest.cells:
            raise FeatureError(
                "misshapen", f"{item.where}: {_SAYS[record.cells]}, the others {_SAYS[self.manifest.cells]}"
            )
        if record.grid.shape[2] != entry.grid_channels:
            found = int(record.grid.shape[2])
            raise FeatureError("misshapen", f"{item.where}: {found} channels, the others have {entry.grid_channels}")
        pooled = record.pooled if entry.pooled_channels else None
        if entry.pooled_channels and (pooled is None or len(pooled) != entry.pooled_channels):
            found = 0 if pooled is None else len(pooled)
            raise FeatureError(
                "misshapen",
                f"{item.where}: a pooled vector of {found} values, the others have {entry.pooled_channels}; "
                "--no-pooled leaves them all out",
            )
        grid = self._cast(record.grid, item.where)
        if record.boxes is not None and not bool(torch.isfinite(record.boxes).all()):
            raise FeatureError("not_finite", f"{item.where}: a box is infinite or not a number")
        cast = None if pooled is None else self._cast(pooled, item.where)
        return ForeignRecord(grid, cast, record.boxes, record.size, record.cells)

    def _cast(self, tensor: Tensor, where: str) -> Tensor:
        wanted = _TORCH[self.manifest.dtype]
        if self.exact and tensor.dtype != wanted and (tensor.dtype, wanted) not in _EXACT:
            given = str(tensor.dtype).removeprefix("torch.")
            raise FeatureError(
                "unsupported",
                f"{where}: {given} values do not fit into {self.manifest.dtype} unrounded; ask for --dtype",
            )
        finite = bool(torch.isfinite(tensor).all())
        out = tensor.to(wanted)
        if not finite or not bool(torch.isfinite(out).all()):
            why = f"too large for {self.manifest.dtype}" if finite else "infinite or not a number"
            raise FeatureError("not_finite", f"{where}: a value is {why}")
        return out


_SAYS: dict[CellKind, str] = {"grid": "holds a grid", "regions": "holds regions", "boxes": "holds regions with boxes"}


def _probe(source: ForeignSource) -> _Traits:
    """What most of the first readable records are like; raises DataError where none can be read."""
    found: list[_Traits] = []
    first: Failure | None = None
    for row in range(len(source)):
        _, record = attempt(source[row], lambda item: item.read())
        if isinstance(record, Failure):
            first = first or record
            continue
        pooled = None if record.pooled is None else len(record.pooled)
        kind = record.grid.dtype
        if record.pooled is not None:
            kind = torch.promote_types(kind, record.pooled.dtype)
        found.append(_Traits(kind, int(record.grid.shape[2]), pooled, record.cells))
        if len(found) == _PROBED:
            break
    if not found:
        said = first.message if first else "it is empty"
        raise DataError(f"{source.name}: not one of {len(source)} pictures can be read; the first: {said}")
    return Counter(found).most_common(1)[0][0]


def _manifest(
    source: ForeignSource, traits: _Traits, name: str, fingerprint: str, dtype: DType | None, shard_size: int
) -> Manifest:
    if dtype is None:
        stored = next((name for name, kind in _TORCH.items() if kind == traits.dtype), None)
        if stored is None:
            given = str(traits.dtype).removeprefix("torch.")
            raise UsageError(f"{source.name}: holds {given} values, which a store cannot; ask for --dtype float32")
    entry = EncoderEntry(
        name=name,
        fingerprint=fingerprint,
        layer=IMPORTED,
        positions=IMPORTED,
        grid_channels=traits.channels,
        pooled_channels=traits.pooled,
        stride=None,
        preprocess=None,
    )
    return Manifest(
        encoder=entry,
        resize=IMPORTED,
        dtype=dtype or stored,  # type: ignore[arg-type]
        precision=PrecisionEntry(choice=IMPORTED, cosine=None, backend=IMPORTED, device=IMPORTED),
        shard_size=shard_size,
        batch_size=1,
        total=len(source),
        items=items_digest(source.ids()),
        source=source.name,
        cells=traits.cells,
    )


def _identity(name: str, format: str, options: Options) -> str:
    """A fingerprint: nobody has the weights, so the name given, and how the files were read, must do."""
    text = json.dumps([name, format, options.layout, options.grid])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _settle(folder: Path, existing: Manifest | None, wanted: Manifest) -> Manifest:
    if existing is None:
        if create_once(folder / layout.MANIFEST, wanted.to_bytes()):
            return wanted
        existing = load_manifest(folder)
    if existing.precision.choice != IMPORTED:
        raise StoreError(f"{folder}: holds features of an extraction; choose another --out")
    return reconcile(folder, existing, wanted)
