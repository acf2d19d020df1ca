"""MoVie's convolution branch: bottlenecks whose cells are modulated by the question (the sizes that MMF trained).

Planes are (B, C, h, w); `real` (B, 1, h, w) is 1.0 where a cell is and 0.0 at padding, None where all are real.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops.misc import FrozenBatchNorm2d

_SQUEEZE = 4
_GATE = 7


class Modulation(nn.Module):
    """Cells times a linear image of the question, then a 1x1 convolution."""

    def __init__(self, channels: int, condition: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, channels)
        self.conv = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, channels, h, w), (B, condition) -> (B, out, h, w)."""
        return self.conv(x * self.linear(condition)[:, :, None, None])


class Gates(nn.Module):
    """Squeeze-and-excitation over channels, then a gate over cells from a 7x7 convolution of the channels' mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // _SQUEEZE, 1, bias=False)
        self.excite = nn.Conv2d(channels // _SQUEEZE, channels, 1, bias=False)
        self.spatial = nn.Conv2d(1, 1, _GATE, padding=_GATE // 2, bias=False)

    def forward(self, x: Tensor, real: Tensor | None) -> Tensor:
        """(B, C, h, w) -> the same, gated; what is padding must be and stays zero."""
        mean = average(x, real)[:, :, None, None]
        x = x * torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
        return x * torch.sigmoid(self.spatial(x.mean(dim=1, keepdim=True)))


class ModulatedBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with frozen normalisation, the question added after the first, gates, shortcut."""

    def __init__(self, channels: int, out: int, condition: int) -> None:
        super().__init__()
        inner = out // 4
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.modulate = Modulation(channels, condition, inner)
        self.norm_reduce = FrozenBatchNorm2d(inner)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.norm_mix = FrozenBatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, out, 1, bias=False)
        self.norm_expand = FrozenBatchNorm2d(out)
        self.gates = Gates(out)
        self.shortcut = nn.Conv2d(channels, out, 1, bias=False) if channels != out else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor, real: Tensor | None) -> Tensor:
        """(B, channels, h, w), (B, condition) -> (B, out, h, w), zero at padding."""
        inner = functional.relu(self.norm_reduce(self.reduce(x) + self.modulate(x, condition)))
        # A neighbour beyond the picture's border must be zero, whatever biases have made of it.
        inner = functional.relu(self.norm_mix(self.mix(_only_real(inner, real))))
        out = self.gates(_only_real(self.norm_expand(self.expand(inner)), real), real)
        return functional.relu(out + self.shortcut(x))


class MovieBranch(nn.Module):
    """Modulated bottlenecks one after another, the mean over cells, layer normalisation."""

    def __init__(self, channels: int, size: int, condition: int, layers: int) -> None:
        super().__init__()
        sizes = [channels, *([size] * layers)]
        self.blocks = nn.ModuleList(ModulatedBottleneck(a, size, condition) for a in sizes[:-1])
        self.norm = nn.LayerNorm(sizes[-1])

    def forward(self, x: Tensor, condition: Tensor, real: Tensor | None) -> Tensor:
        """(B, channels, h, w) zero at padding, (B, condition) -> (B, size)."""
        for block in self.blocks:
            x = block(x, condition, real)
        return self.norm(average(x, real))


def average(x: Tensor, real: Tensor | None) -> Tensor:
    """Mean over real cells, (B, C, h, w) -> (B, C); what is padding must be zero."""
    if real is None:
        return x.mean(dim=(2, 3))
    return x.sum(dim=(2, 3)) / real.sum(dim=(2, 3))


def _only_real(x: Tensor, real: Tensor | None) -> Tensor:
    return x if real is None else x * real
