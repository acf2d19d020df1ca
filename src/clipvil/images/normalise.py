"""Pixels of a batch to what the weights were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from clipvil.encoders.base import Preprocess


def normalise(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Turn uint8 RGB (B, 3, H, W) into float32 `(pixels / 255 - mean) / std`, planes in the encoder's channel order.

    One multiply-add a value (x * 1/(255 std) - mean/std), on the device and in the memory layout of the input. With
    channels "BGR" each colour keeps its own mean and std and only the planes change places.
    """
    mean = torch.tensor(preprocess.mean, dtype=torch.float64)
    std = torch.tensor(preprocess.std, dtype=torch.float64)
    scale = (1 / (255 * std)).to(pixels.device, torch.float32).view(3, 1, 1)
    shift = (mean / std).to(pixels.device, torch.float32).view(3, 1, 1)
    out = (pixels * scale).sub_(shift)
    return out.flip(-3) if preprocess.channels == "BGR" else out
