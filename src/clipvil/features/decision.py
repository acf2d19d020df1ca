"""Agreeing on the manifest: the precision decided on first pictures, or taken from the store that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from clipvil.encoders.base import Encoder
from clipvil.features import layout, precision
from clipvil.features.backends import Backend, CompiledBackend, create_backend
from clipvil.features.locked import create_once
from clipvil.features.manifest import Manifest, PrecisionEntry, load_manifest
from clipvil.features.plan import reconcile
from clipvil.features.precision import Precision

_TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def settle(
    folder: Path,
    existing: Manifest | None,
    wanted: Manifest,
    encoder: Encoder,
    probe: Callable[[], Tensor],
    *,
    asked: str,
    quiet: bool = False,
) -> tuple[Manifest, Backend]:
    """The manifest that holds from now on, on disk before any shard is, and the backend that fits it.

    `wanted` says everything but the precision; its precision entry names backend and device. `asked` is a precision
    by name or "auto", and `probe` gives the pictures to try it on. Of several processes that begin a store at once,
    the first one's choice holds for all. Raises StoreError that names what differs from an existing store.
    """
    if existing is None:
        entry, backend = _decide(wanted, encoder, probe(), asked, quiet=quiet)
        mine = wanted.model_copy(update={"precision": entry})
        if create_once(folder / layout.MANIFEST, mine.to_bytes()):
            return mine, backend
        existing = load_manifest(folder)
    given = existing.precision.choice if asked == "auto" else precision.named(asked, encoder.module).name
    entry = wanted.precision.model_copy(update={"choice": given})
    manifest = reconcile(folder, existing, wanted.model_copy(update={"precision": entry}))
    return manifest, _backend(wanted, encoder, precision.named(given, encoder.module))


def _decide(
    wanted: Manifest, encoder: Encoder, pixels: Tensor, asked: str, *, quiet: bool
) -> tuple[PrecisionEntry, Backend]:
    name, device = wanted.precision.backend, wanted.precision.device
    if name == "torch" and asked == "auto":
        choice = precision.choose(encoder, pixels, device, quiet=quiet)
        chosen, cosine = choice.precision, choice.cosine
        backend = _backend(wanted, encoder, chosen)
    else:
        # A compiled backend is measured against torch and not against itself; its auto is plain fp32.
        chosen = precision.named("fp32" if asked == "auto" else asked, encoder.module)
        backend = _backend(wanted, encoder, chosen)
        cosine = _cosine(backend, encoder, pixels, chosen)
    # Rounded, so that the last bits of a sum do not tell two manifests of the same features apart.
    entry = PrecisionEntry(choice=chosen.name, cosine=round(cosine, 6), backend=name, device=device)
    return entry, backend


def _cosine(backend: Backend, encoder: Encoder, pixels: Tensor, chosen: Precision) -> float:
    if isinstance(backend, CompiledBackend):
        backend.start(pixels[: backend.batch_size])()
        return backend.cosine
    if chosen.kind == "fp32":
        return 1.0
    return precision.measure(encoder, chosen, pixels, backend.device)


def _backend(wanted: Manifest, encoder: Encoder, chosen: Precision) -> Backend:
    entry = wanted.precision
    return create_backend(
        entry.backend,
        encoder,
        chosen,
        device=entry.device,
        dtype=_TORCH[wanted.dtype],
        batch_size=wanted.batch_size,
    )
