"""What an extraction is going to do: its options checked, its manifest agreed on, its shards listed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np
import torch

from clipvil.encoders.base import Encoder
from clipvil.errors import StoreError, UsageError
from clipvil.features import layout
from clipvil.features.backends import NAMES as BACKENDS
from clipvil.features.batches import Item, Work
from clipvil.features.index import STATUSES
from clipvil.features.locked import clean_abandoned
from clipvil.features.manifest import DTYPES, EncoderEntry, Manifest, PrecisionEntry, items_digest, load_manifest
from clipvil.features.precision import NAMES as PRECISIONS
from clipvil.features.recording import sound_shard
from clipvil.features.shard import generation_of
from clipvil.images.resize import ResizePolicy
from clipvil.images.sources import ImageSource

SHARD_SIZE = 256
BATCH_SIZE = 32
OK = STATUSES.index("ok")


@dataclass(frozen=True)
class Slice:
    """The part of the shards that one process does: those whose number modulo `of` is `number` - 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Slice:
        """From `i/n`, 1 <= i <= n. Raises UsageError."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--shard must read i/n with 1 <= i <= n, as 2/8, not '{text}'")
        return cls(int(match[1]), int(match[2]))

    def shards(self, total: int) -> range:
        """The numbers of its shards among `total`."""
        return range(self.number - 1, total, self.of)


@dataclass(frozen=True)
class MaxBad:
    """How many pictures may fail: a count, or a fraction of all (0 to 1)."""

    count: int | None = None
    fraction: float | None = None

    @classmethod
    def parse(cls, value: str | int | float | None) -> MaxBad:
        """From a count (`10`), a fraction (`0.01`) or a percentage (`1%`); None: any number. Raises UsageError."""
        if value is None:
            return cls()
        text = str(value).strip()
        try:
            if re.fullmatch(r"\d+", text):
                return cls(count=int(text))
            fraction = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            fraction = -1.0
        if not 0 <= fraction <= 1:
            raise UsageError(f"--max-bad must be a count (10), a fraction (0.01) or a percentage (1%), not '{text}'")
        return cls(fraction=fraction)

    def exceeded(self, failed: int, total: int) -> bool:
        """Whether `failed` of `total` are too many."""
        if self.count is not None:
            return failed > self.count
        return self.fraction is not None and failed > self.fraction * total


def check_options(*, precision: str, dtype: str, backend: str, device: str, **sizes: int | None) -> None:
    """Refuse unknown names and odd numbers before anything is built or written. Raises UsageError."""
    for name, value, known in (
        ("dtype", dtype, tuple(DTYPES)),
        ("backend", backend, BACKENDS),
        ("precision", precision.removesuffix("+channels_last"), PRECISIONS),
    ):
        if value not in known:
            raise UsageError(f"unknown {name} '{value}'; known: {', '.join(known)}")
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", device) is None:
        raise UsageError(f"unknown device '{device}'; known: cpu, cuda, cuda:i")
    if device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"device '{device}' is asked for, but torch sees no CUDA device; use cpu")
    if backend != "torch" and (device != "cpu" or precision.startswith("fp16")):
        raise UsageError(f"backend {backend} runs on the CPU, in fp32 or bf16; use --backend torch")
    for name, size in sizes.items():
        if size is not None and not 1 <= size <= 1 << 20:
            raise UsageError(f"{name.replace('_', ' ')} must lie between 1 and {1 << 20}, not {size}")


def make_manifest(
    source: ImageSource,
    encoder: Encoder,
    policy: ResizePolicy,
    *,
    backend: str,
    device: str,
    dtype: str,
    positions: str,
    store_pooled: bool,
    shard_size: int | None,
    batch_size: int | None,
) -> Manifest:
    """The manifest of the store that is asked for, its precision left open."""
    entry = EncoderEntry(
        name=encoder.name,
        fingerprint=encoder.fingerprint(),
        layer=encoder.layer,
        positions=str(getattr(encoder, "positions", positions)),
        grid_channels=encoder.grid_channels,
        pooled_channels=encoder.pooled_channels if store_pooled else None,
        stride=encoder.stride,
        preprocess=encoder.preprocess,
    )
    return Manifest(
        encoder=entry,
        resize=policy.name,
        dtype=dtype,  # type: ignore[arg-type]  # see `check_options`
        precision=PrecisionEntry(choice="auto", cosine=1.0, backend=backend, device=device),
        shard_size=shard_size or SHARD_SIZE,
        batch_size=batch_size or BATCH_SIZE,
        total=len(source),
        items=items_digest(source.ids()),
        source=source.name,
    )


def prepare_folder(folder: Path) -> Manifest | None:
    """Make the folder, remove what dead processes left half-written, and read the manifest if there is one.

    Raises StoreError where the folder is in use for something else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StoreError(f"{folder}: is a file, not a folder for a feature store; choose another --out") from None
    clean_abandoned(folder, layout.OURS)
    # Names with a dot are not looked at: another process may be about to write the manifest at this moment. The names
    # are read before the manifest is looked for: it is written first, so what another process adds comes with it.
    occupied = any(not path.name.startswith(".") for path in folder.iterdir())
    if (folder / layout.MANIFEST).exists():
        return load_manifest(folder)
    if occupied:
        raise StoreError(f"{folder}: is not empty and holds no feature store; choose another --out")
    return None


def reconcile(folder: Path, existing: Manifest, wanted: Manifest) -> Manifest:
    """The manifest that stands, if `wanted` agrees with it; raises StoreError naming what differs."""
    differences = existing.differences(wanted)
    if differences:
        raise StoreError(
            f"{folder}: holds other features: {'; '.join(differences)}; choose another --out, or the same settings"
        )
    return existing


def list_work(
    folder: Path, manifest: Manifest, source: Sequence[Item], part: Slice, *, retry: bool
) -> list[Work[Item]]:
    """The inputs still to be done: shards that are absent or damaged, and with `retry` those that failed before."""
    work: list[Work[Item]] = []
    for shard in part.shards(manifest.shards):
        first = shard * manifest.shard_size
        index = sound_shard(folder, shard, manifest)
        positions = range(manifest.shard_length(shard))
        if index is None:
            # An unsound shard is removed at once, or its index would vouch for the data that replaces it.
            layout.shard_index(folder, shard).unlink(missing_ok=True)
            work.append(Work(shard, positions, _Items(source, first)))
        elif retry and (failed := np.flatnonzero(index.rows["status"] != OK).tolist()):
            work.append(Work(shard, failed, _Items(source, first)))
    return work


@dataclass(frozen=True)
class _Items(Generic[Item]):
    source: Sequence[Item]
    first: int

    def __call__(self, position: int) -> Item:
        return self.source[self.first + position]


def remove_orphans(folder: Path, manifest: Manifest, part: Slice) -> None:
    """Remove data files of this slice that a kill during a retry left beside the one the index names."""
    mine = part.shards(manifest.shards)
    for path, shard, generation in layout.data_files(folder):
        if shard not in mine:
            continue  # another process may be between the two renames of this shard
        index = sound_shard(folder, shard, manifest)
        if index is not None and generation_of(index) != generation:
            path.unlink(missing_ok=True)
