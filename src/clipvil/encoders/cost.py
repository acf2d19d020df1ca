"""What an encoder costs: parameters and floating-point operations a picture, of its visual part alone."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clipvil.encoders.base import Encoder


def parameters(encoder: Encoder) -> int:
    """The number of parameters of the visual part (a text tower is never loaded)."""
    return sum(parameter.numel() for parameter in encoder.module.parameters())


def gflops(encoder: Encoder, size: int | tuple[int, int]) -> float:
    """10^9 floating-point operations to encode one picture of `size` (a side, or height and width).

    A multiply-add counts as two operations: papers and tables that count multiply-adds (MACs) print half of this.
    Counted are convolutions, matrix products and attention by torch's FlopCounterMode in one real pass; norms,
    activations and resampling are left out, as everywhere.
    """
    height, width = (size, size) if isinstance(size, int) else size
    like = next(encoder.module.parameters())
    pixels = torch.zeros(1, 3, height, width, device=like.device, dtype=like.dtype)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Fused attention is one opaque operation that the counter does not know on every device: spell it out.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            encoder.encode(pixels)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return float(counter.get_total_flops()) / 1e9
