"""Layers that several models share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ScalarNormLinear(nn.Module):
    """A linear layer whose weight is g * V / ||V|| with one scalar gain g and the Frobenius norm of the whole V.

    Weight normalisation (Salimans and Kingma 2016) as the published Pythia has it: not one gain an output row. The
    parameters are called `weight_g` () and `weight_v` (out, in) as in its checkpoints. Shapes: (..., in) -> (..., out).
    """

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        start = nn.Linear(size_in, size_out)
        self.weight_v = nn.Parameter(start.weight.detach().clone())
        self.weight_g = nn.Parameter(self.weight_v.detach().norm())
        self.bias = nn.Parameter(start.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to the last dimension."""
        return functional.linear(x, self.weight_v * (self.weight_g / self.weight_v.norm()), self.bias)


class NonLinear(nn.Module):
    """Dropout, scalar-normed linear layer, ReLU: the block that Pythia is made of."""

    def __init__(self, size_in: int, size_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = ScalarNormLinear(size_in, size_out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out), not negative."""
        return functional.relu(self.linear(self.dropout(x)))


def masked_softmax(scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """Softmax over `dim`; places where `mask` is False get weight 0. Every slice needs one True place."""
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim)


POSITION_FEATURES = 14
_FREQUENCIES = (0.5, 1.0, 2.0)


def position_features(shapes: Tensor, cells: int, boxes: Tensor | None = None) -> Tensor:
    """Where each cell lies, ready for a linear layer: (B, cells, POSITION_FEATURES).

    x and y as in `grid_positions`, or of the centres of `boxes` (B, cells, 4; shares of the picture), and their sine
    and cosine at three frequencies (0.5, 1 and 2 half turns over the picture), so that a linear layer can tell single
    rows and columns of a small grid apart.
    """
    places = grid_positions(shapes, cells) if boxes is None else boxes[..., :2] + boxes[..., 2:] - 1
    angles = [math.pi * frequency * places for frequency in _FREQUENCIES]
    return torch.cat([places, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], dim=-1)


def grid_positions(shapes: Tensor, cells: int) -> Tensor:
    """Where each cell lies in its grid: x and y of cell centres in -1..1, (B, cells, 2).

    `shapes` (B, 2) holds rows and columns; cells are flattened row by row. What lies beyond rows * columns is padding
    and gets the place of no real cell.
    """
    place = torch.arange(cells, device=shapes.device).unsqueeze(0)
    rows, columns = shapes[:, :1], shapes[:, 1:]
    x = (2 * (place % columns) + 1) / columns - 1
    y = (2 * torch.div(place, columns, rounding_mode="floor") + 1) / rows - 1
    return torch.stack((x, y), dim=-1)
