"""A small real encoder, so that extraction is tested without any library's models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from clipvil.encoders.base import Preprocess
from clipvil.encoders.module_encoder import ModuleEncoder


class Tower(nn.Module):
    """Three convolutions, eight pixels a cell; pooled is the mean of the grid."""

    def __init__(self, channels: int = 12, pooled: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, channels, 3, stride=4, padding=1),
        )
        self.pooled = pooled

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        grid = self.layers(pixels)
        return grid, grid.mean((2, 3)) if self.pooled else None


def tiny_encoder(*, seed: int = 0, channels: int = 12, pooled: bool = True, name: str = "tiny") -> ModuleEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = Tower(channels, pooled)
    preprocess = Preprocess((0.48, 0.46, 0.41), (0.27, 0.26, 0.28), "bicubic", (32, 32))
    return ModuleEncoder(
        name,
        tower,
        preprocess=preprocess,
        layer="last",
        grid_channels=channels,
        pooled_channels=channels if pooled else None,
        stride=8,
    )


def write_pictures(folder: Path, count: int, *, seed: int = 0) -> list[str]:
    """Coloured noise of a few sizes as PNG files; returns the ids, which are the file names."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    names = [f"{number:04d}.png" for number in range(count)]
    for number, name in enumerate(names):
        height, width = ((40, 60), (60, 40), (48, 48), (33, 90))[number % 4]
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    return names
