"""Pictures in, a feature store out: resumable, bounded in memory, and the same bytes however often it was killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from clipvil.encoders.base import Encoder
from clipvil.encoders.registry import create_encoder
from clipvil.environment import cpu
from clipvil.errors import UsageError
from clipvil.features import layout
from clipvil.features.backends import Backend
from clipvil.features.batches import Work
from clipvil.features.cost import encoder_cost, record_cost
from clipvil.features.decision import settle
from clipvil.features.loop import Loop
from clipvil.features.manifest import Manifest
from clipvil.features.outcome import clear_disk_errors, conclude
from clipvil.features.plan import MaxBad, Slice, check_options, list_work, make_manifest, prepare_folder, remove_orphans
from clipvil.features.probe import probe_batch
from clipvil.features.recording import Recorder
from clipvil.features.views import KINDS as PANORAMAS
from clipvil.features.views import open_panoramas
from clipvil.images.prepare import prepare
from clipvil.images.resize import Resized, ResizePolicy, policy
from clipvil.images.sources import ImageItem, ImageSource, open_source
from clipvil.progress import Progress
from clipvil.progress import progress as show_progress


@dataclass
class ExtractReport:
    """What one run of `extract` did.

    `done` pictures encoded in this run, `skipped` ones that the store held already, `failed` all those of this slice
    that have no features (`reasons` counts them by status); `shares` fractions of the wall time that the main thread
    spent waiting for decoded pictures ("decode"), encoding ("encode") and waiting for the writer ("write"); `precision`
    as chosen, with the lowest `cosine` to fp32; `complete` whether all slices are done; `exit_code` 0, or 3 where more
    pictures failed than `max_bad` allows or not one could be used.
    """

    store: Path
    done: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    pictures_per_second: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    precision: str = ""
    cosine: float = 1.0
    reasons: dict[str, int] = field(default_factory=dict)
    complete: bool = False
    exit_code: int = 0

    def line(self) -> str:
        """The outcome in one line."""
        parts = [f"{self.store}: {self.done} pictures encoded"]
        if self.done:
            parts[0] += f" at {self.pictures_per_second:.1f}/s in {self.precision}"
        if self.skipped:
            parts.append(f"{self.skipped} were there already")
        if self.failed:
            reasons = ", ".join(f"{count} {name}" for name, count in sorted(self.reasons.items()))
            parts.append(f"{self.failed} failed ({reasons}; see {layout.FAILURES})")
        parts.append("complete" if self.complete else "other slices are still to come")
        return ", ".join(parts)


@dataclass(frozen=True)
class _Preparing:
    """Bytes to canvas, for the decoding threads."""

    policy: ResizePolicy
    encoder: Encoder

    def __call__(self, item: ImageItem) -> Resized:
        return prepare(item.read(), self.policy, self.encoder.preprocess, self.encoder.stride, where=item.where)


def extract(
    source: ImageSource | str | Path,
    *,
    encoder: str | Encoder,
    out: str | Path,
    resize: str = "square",
    layer: str | None = None,
    positions: Literal["resized", "zero"] = "resized",
    precision: str = "auto",
    dtype: str = "float16",
    shard: str = "1/1",
    workers: int | None = None,
    batch_size: int | None = None,
    shard_size: int | None = None,
    max_bad: int | float | str | None = None,
    retry_failed: bool = False,
    progress: bool = True,
    store_pooled: bool = True,
    kind: str | None = None,
    images: Path | None = None,
    graphs: Path | None = None,
    backend: str = "torch",
    device: str | None = None,
) -> ExtractReport:
    """Encode every picture of `source` into the feature store `out`, or go on where an earlier run stopped.

    `source` is an ImageSource or a path that `open_source` understands (`kind` and `images` as there; the kinds `views`
    and `skybox`, to which `graphs` belongs, are panoramas: see `features.views`). `layer` and `positions` are for an
    encoder given by name. `precision` is auto, fp32, bf16 or fp16; auto is decided once per store. `dtype` is that of
    the stored grids. `shard="i/n"` does every n-th shard, so that n processes or machines can fill one folder; whoever
    ends last joins it. `max_bad` (a count, a fraction, "1%") sets the exit code to 3 when more pictures fail; the good
    ones are kept. `retry_failed` tries again what failed before. `workers` are the decoding threads (0: none),
    `device` is "cpu" or "cuda[:i]" (by default CUDA where there is one), `backend` torch, openvino or onnx. Batches of
    `batch_size` (32) pictures of one shape, shards of `shard_size` (256) pictures.

    Raises UsageError, DataError (the source), EncoderError, StoreError (the store holds other features, the disk is
    full). Whatever happens, what is complete stays, and the same call goes on from there.
    """
    part, allowed, rule = Slice.parse(shard), MaxBad.parse(max_bad), policy(resize)
    where = device or ("cuda" if torch.cuda.is_available() and backend == "torch" else "cpu")
    sizes = {"batch_size": batch_size, "shard_size": shard_size}
    check_options(precision=precision, dtype=dtype, backend=backend, device=where, **sizes)
    opened = _opened(source, kind, images, graphs)
    built = create_encoder(encoder, layer=layer, positions=positions) if isinstance(encoder, str) else encoder
    folder, preparing = Path(out), _Preparing(rule, built)
    with clear_disk_errors(folder):
        manifest, engine, batch = _settled(
            folder, opened, built, preparing, precision=precision, quiet=not progress, device=where, backend=backend,
            dtype=dtype, positions=positions, store_pooled=store_pooled, **sizes,
        )  # fmt: skip
        remove_orphans(folder, manifest, part)
        work = list_work(folder, manifest, opened, part, retry=retry_failed)
        recorder = Recorder(folder, manifest)
        threads = default_workers() if workers is None else workers
        loop = Loop(engine, recorder, preparing, batch_size=batch, workers=threads)
        loop.run(work, _bar(work, quiet=not progress))
        report = _report(folder, manifest, part, allowed, recorder, loop)
        _record_cost(report, recorder, loop, built, shard, threads)
    if progress:
        print(report.line(), file=sys.stderr, flush=True)
    return report


def _opened(
    source: ImageSource | str | Path, kind: str | None, images: Path | None, graphs: Path | None
) -> ImageSource:
    if kind in PANORAMAS and not isinstance(source, ImageSource):
        return open_panoramas(source, kind, graphs)
    if graphs is not None:
        raise UsageError("graphs belong to panoramas: give the kind views or skybox, or leave them out")
    return source if isinstance(source, ImageSource) else open_source(source, kind=kind, images=images)


def _settled(
    folder: Path,
    source: ImageSource,
    encoder: Encoder,
    preparing: _Preparing,
    *,
    precision: str,
    quiet: bool,
    shard_size: int | None,
    batch_size: int | None,
    **asked: Any,
) -> tuple[Manifest, Backend, int]:
    """The manifest that holds from now on, what encodes, and how many pictures a batch has."""
    existing = prepare_folder(folder)
    wanted = make_manifest(
        source,
        encoder,
        preparing.policy,
        shard_size=shard_size or (existing.shard_size if existing else None),
        batch_size=batch_size or (existing.batch_size if existing else None),
        **asked,
    )
    trial = partial(probe_batch, source, preparing, encoder)
    manifest, engine = settle(folder, existing, wanted, encoder, trial, asked=precision, quiet=quiet)
    return manifest, engine, wanted.batch_size


def _bar(work: Sequence[Work[ImageItem]], *, quiet: bool) -> Progress:
    size = sum(len(unit.positions) for unit in work)
    return show_progress(size, "extract", unit="pictures", quiet=quiet or not work)


def default_workers() -> int:
    """Decoding threads: as many as there are cores for this process, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, cores)


def _report(
    folder: Path, manifest: Manifest, part: Slice, allowed: MaxBad, recorder: Recorder, loop: Loop
) -> ExtractReport:
    report = ExtractReport(folder, precision=manifest.precision.choice, cosine=manifest.precision.cosine or 0.0)
    report.done, report.seconds, report.shares = recorder.stored, loop.clock.elapsed, loop.clock.shares()
    report.pictures_per_second = report.done / max(report.seconds, 1e-9)
    ended = conclude(folder, manifest, part, allowed)
    report.complete, report.reasons, report.exit_code = ended.complete, ended.reasons, ended.exit_code
    report.failed, report.skipped = ended.failed, ended.usable - report.done
    return report


def _record_cost(
    report: ExtractReport, recorder: Recorder, loop: Loop, encoder: Encoder, shard: str, workers: int
) -> None:
    if report.done and loop.canvas:
        about = {**_cost(report, recorder, shard, workers), **encoder_cost(encoder, loop.canvas)}
        record_cost(report.store, about)


def _cost(report: ExtractReport, recorder: Recorder, shard: str, workers: int) -> dict[str, Any]:
    return {
        "slice": shard,
        "workers": workers,
        "pictures": report.done,
        "seconds": round(report.seconds, 3),
        "pictures_per_second": round(report.pictures_per_second, 3),
        "shares": report.shares,
        "precision": report.precision,
        "bytes_per_picture": round(recorder.bytes / max(report.done, 1), 1),
        "threads": torch.get_num_threads(),
        "cpu": cpu(),
        "torch": torch.__version__,
    }
