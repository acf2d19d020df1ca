"""Which arithmetic an encoder runs in: asked for by name, or the fastest that changes nothing that matters."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clipvil.encoders.base import Encoded, Encoder
from clipvil.environment import cpu
from clipvil.errors import UsageError
from clipvil.features.folding import fold_batch_norms
from clipvil.images.normalise import normalise

LEAST_COSINE = 0.9995
"""A candidate of `auto` whose cosine to fp32 is lower for any picture of the trial is not used."""
_BUDGET = 3.0  # seconds that the trial of `auto` may take before it is content with what it has
_WORTH = 1.1  # how much faster a candidate must be: near ties would make the choice depend on the weather
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = ("auto", *_DTYPES)


@dataclass(frozen=True)
class Precision:
    """A floating-point type and a memory layout; `name` reads `bf16+channels_last`."""

    kind: str
    channels_last: bool

    @property
    def name(self) -> str:
        """The canonical name."""
        return self.kind + ("+channels_last" if self.channels_last else "")

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and activations."""
        return _DTYPES[self.kind]


@dataclass(frozen=True)
class Choice:
    """What was chosen, the lowest cosine of a grid to its fp32 counterpart, and one line that says so."""

    precision: Precision
    cosine: float
    told: str


def named(name: str, module: nn.Module) -> Precision:
    """The precision of this name, one of NAMES but `auto`, or a canonical name. Raises UsageError.

    Without a layout in the name, convolutional networks get channels_last (2 to 3 times faster on CPUs and on
    tensor cores), token networks, whose one convolution cuts the patches, do not.
    """
    kind, _, layout = name.partition("+")
    if kind not in _DTYPES or layout not in ("", "channels_last"):
        raise UsageError(f"unknown precision '{name}'; known: {', '.join(NAMES)}")
    convolutional = sum(isinstance(part, nn.Conv2d) for part in module.modules()) > 1
    return Precision(kind, bool(layout) or (convolutional and kind == name))


def apply(encoder: Encoder, precision: Precision, device: str) -> Encoder:
    """The encoder in this precision: itself in fp32, otherwise a copy, since rounded weights cannot be restored.

    The copy has its batch norms folded into the convolutions; in fp32 the library's own numbers are kept to the bit.
    """
    if precision.dtype != torch.float32:
        encoder = copy.deepcopy(encoder)
        encoder.module = fold_batch_norms(encoder.module, _sample(encoder))
    return encoder.to(device=device, dtype=precision.dtype, channels_last=precision.channels_last)


def _sample(encoder: Encoder) -> Tensor:
    """One picture of noise at the encoder's own size."""
    own = next(encoder.module.parameters())
    noise = torch.randn(1, 3, *encoder.preprocess.size, generator=torch.Generator().manual_seed(0))
    return noise.to(own.device, own.dtype)


def choose(encoder: Encoder, pixels: Tensor, device: str, *, quiet: bool = False) -> Choice:
    """Try the candidates on a batch (uint8 (B, 3, H, W)) for at most about three seconds and pick one.

    fp32 in the layout that suits the network is the reference, and stays where there is no time to try others. bf16
    (only where the CPU or GPU computes in it; emulated it is slower than fp32), on GPUs without it fp16, and fp32 in
    the other layout are taken if they are at least a tenth faster than the best so far and every grid keeps a cosine
    of LEAST_COSINE.
    """
    reference = named("fp32", encoder.module)
    # The half types first: where time is short (a busy machine), what gains most has been tried.
    others = [*(Precision(kind, True) for kind in _half_types(device)), Precision("fp32", not reference.channels_last)]
    started = time.monotonic()
    pixels, exact, base = _trial(apply(encoder, reference, device), pixels, device, shrink=True)
    best, seconds, cosine = reference, base, 1.0
    lines = []
    for candidate in others:
        if time.monotonic() - started > _BUDGET:
            lines.append(f"{candidate.name} not tried for time")
            continue
        _, outcome, needed = _trial(apply(encoder, candidate, device), pixels, device)
        agreement = least_cosine(outcome, exact)
        lines.append(f"{candidate.name} {base / needed:.2f}x, cosine {agreement:.6f}")
        if agreement > LEAST_COSINE and needed * _WORTH < seconds:
            best, seconds, cosine = candidate, needed, agreement
    without = "" if _half_types(device) else "; bf16 not tried, this processor would emulate it"
    tried = ", ".join([f"{reference.name} 1.00x", *lines])
    told = f"precision {best.name} (cosine to fp32 {cosine:.6f}; tried {tried}{without})"
    if not quiet:
        print(told, file=sys.stderr, flush=True)
    return Choice(best, cosine, told)


def measure(encoder: Encoder, chosen: Precision, pixels: Tensor, device: str) -> float:
    """The lowest cosine of the grids of a batch in this precision to those in fp32."""
    exact = _trial(apply(encoder, Precision("fp32", chosen.channels_last), device), pixels, device)[1]
    return least_cosine(_trial(apply(encoder, chosen, device), pixels, device)[1], exact)


def least_cosine(one: Encoded, other: Encoded) -> float:
    """The lowest cosine between corresponding grids (and pooled vectors) of two results; at most 1."""
    pairs = [(one.grid, other.grid)]
    if one.pooled is not None and other.pooled is not None:
        pairs.append((one.pooled, other.pooled))
    lowest = 1.0
    for a, b in pairs:
        cosines = torch.cosine_similarity(a.flatten(1).double(), b.flatten(1).double())
        lowest = min(lowest, float(cosines.min()))
    return lowest


def _half_types(device: str) -> Sequence[str]:
    if device.startswith("cuda"):
        return ("bf16",) if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp16",)
    return ("bf16",) if cpu()["bf16"] else ()


def _trial(encoder: Encoder, pixels: Tensor, device: str, *, shrink: bool = False) -> tuple[Tensor, Encoded, float]:
    """Run once to warm up and once for the time; the reference may shrink the batch, for everybody after it."""

    def once() -> tuple[Encoded, float]:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        started = time.monotonic()
        encoded = encoder.encode(normalise(pixels.to(device), encoder.preprocess))
        result = Encoded(encoded.grid.cpu(), encoded.pooled.cpu() if encoded.pooled is not None else None)
        return result, time.monotonic() - started

    with torch.inference_mode():
        encoded, needed = once()
        while shrink and needed > _BUDGET / 4 and len(pixels) > 1:
            pixels = pixels[: len(pixels) // 2]
            encoded, needed = once()
        encoded, again = once()
    return pixels, encoded, min(needed, again)
