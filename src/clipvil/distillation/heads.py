"""Projections from the student's states into the spaces of the teachers: in training alone."""

from __future__ import annotations

from torch import nn


def create_head(kind: str, width: int, channels: int) -> nn.Module:
    """`linear`, or `mlp` with one hidden layer of the student's width: (..., width) -> (..., channels)."""
    if kind == "linear":
        return nn.Linear(width, channels)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, channels))
