"""`mini/annotated`: few pictures with clean labels of a closed set, as ImageNet and Visual Genome are.

A label is an object's class and its box. The class is the pair of shape and colour ("red circle"), one of a closed
set of 60; nothing tells of texture, background, number or relation. A dense head on the grid predicts the class and
box of the object in each cell, and a linear head on the pooled vector which classes are present; both are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvil.mini.training.architecture import EMBED_DIM, build, encode_picture, normalise, write_weights
from clipvil.mini.training.optimisation import CYCLES, Budget, make_optimiser, schedule
from clipvil.mini.training.pictures import WINDOW, cut, draw_range
from clipvil.mini.world import CANVAS, COLORS, SHAPES, scene

SPLIT = "annotated"
STRIDE = 32
GRID_CHANNELS = 512
CLASSES = len(SHAPES) * len(COLORS)
MIN_SHARE = 0.2
"""A cell carries the object that covers most of it, if that is at least this share of the cell or of the object."""


@dataclass(frozen=True)
class Protocol:
    """What is fixed before training; written into `training.json`."""

    pictures: int = 2_000
    seed: int = 0
    cycles: tuple[Budget, ...] = CYCLES
    box_weight: float = 1.0
    present_weight: float = 1.0


class Heads(nn.Module):
    """The dense head and the picture head that training needs and the encoder leaves behind."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = nn.Conv2d(GRID_CHANNELS, len(SHAPES) + 1, 1)
        self.color = nn.Conv2d(GRID_CHANNELS, len(COLORS) + 1, 1)
        self.box = nn.Conv2d(GRID_CHANNELS, 4, 1)
        self.present = nn.Linear(EMBED_DIM, CLASSES)


@dataclass(frozen=True)
class Labels:
    """Annotations of N pictures, padded to the largest number of objects: class -1 is padding."""

    boxes: npt.NDArray[np.float32]
    """(N, M, 4) left, top, right, bottom in pixels"""
    shapes: npt.NDArray[np.int64]
    colors: npt.NDArray[np.int64]

    def rows(self, rows: npt.NDArray[np.int64]) -> Labels:
        """The labels of some pictures."""
        return Labels(self.boxes[rows], self.shapes[rows], self.colors[rows])


def annotate(seed: int, count: int, most: int = 6) -> Labels:
    """Class and box of every object of the first `count` pictures of the annotated stream."""
    boxes = np.zeros((count, most, 4), np.float32)
    shapes, colors = np.full((count, most), -1), np.full((count, most), -1)
    for row in range(count):
        for k, thing in enumerate(scene(seed, SPLIT, row).objects):
            boxes[row, k] = thing.box
            shapes[row, k], colors[row, k] = SHAPES.index(thing.shape), COLORS.index(thing.color)
    return Labels(boxes, shapes, colors)


def train(protocol: Protocol, scratch: Path, log: Callable[[str], None]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train from scratch; returns the state dict (the text tower in it is untrained) and what was measured."""
    began = time.perf_counter()
    pictures, labels = (
        draw_range(SPLIT, protocol.seed, 0, protocol.pictures),
        annotate(protocol.seed, protocol.pictures),
    )
    drawn = time.perf_counter() - began
    log(f"annotated: drew {protocol.pictures} pictures in {drawn:.0f} s")
    torch.manual_seed(protocol.seed)
    model = build().to(memory_format=torch.channels_last)
    heads = Heads()
    model.train()
    cycles = []
    for number, budget in enumerate(protocol.cycles):
        start = time.perf_counter()
        losses = _cycle(model, heads, _batches(pictures, labels, budget, protocol.seed + number), budget, protocol, log)
        write_weights(scratch / f"annotated-{number}", model.state_dict())
        cycles.append(
            {
                "cycle": number,
                "seconds": round(time.perf_counter() - start, 1),
                "final_loss": round(float(np.mean(losses[-50:])), 4),
            }
        )
    measured = {
        "protocol": asdict(protocol),
        "classes": "shape and colour of an object, and its box",
        "seconds_drawing": round(drawn, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "cycles": cycles,
    }
    return {name: value.detach() for name, value in model.state_dict().items()}, measured


def _cycle(
    model: nn.Module,
    heads: Heads,
    batches: Iterator[tuple[Tensor, Labels]],
    budget: Budget,
    protocol: Protocol,
    log: Callable[[str], None],
) -> list[float]:
    """One warm-up and fall of the learning rate; returns the loss of every step."""
    began = time.perf_counter()
    optimiser = make_optimiser(nn.ModuleList([model.visual, heads]), budget)  # type: ignore[list-item]
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    losses: list[float] = []
    for step, (batch, found) in enumerate(batches):
        schedule(optimiser, budget, step)
        loss = _loss(model, heads, batch, found, protocol)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(loss.item())
        if step % 50 == 49 or step + 1 == budget.steps:
            spent = time.perf_counter() - began
            log(f"annotated: step {step + 1}/{budget.steps} loss {np.mean(losses[-50:]):.3f} {spent:.0f} s")
    return losses


def _batches(
    pictures: npt.NDArray[np.uint8], labels: Labels, budget: Budget, seed: int
) -> Iterator[tuple[Tensor, Labels]]:
    """Random crops of `WINDOW` pixels first, then whole pictures moved by up to 8 pixels (the border is repeated)."""
    rng = np.random.default_rng(seed)
    n = len(pictures)
    limit = CANVAS - WINDOW
    for _ in range(budget.close_up_steps):
        rows = rng.integers(0, n, budget.batch)
        corners = rng.integers(0, limit + 1, (budget.batch, 2))
        yield torch.from_numpy(cut(pictures, rows, corners)), _moved(labels.rows(rows), corners, WINDOW)
    for _ in range(budget.whole_steps):
        rows = rng.integers(0, n, budget.batch)
        moves = rng.integers(-8, 9, (budget.batch, 2))
        batch = np.stack([_translated(pictures[row], move) for row, move in zip(rows, moves, strict=True)])
        yield torch.from_numpy(batch), _moved(labels.rows(rows), moves, CANVAS)


def _translated(picture: npt.NDArray[np.uint8], move: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    padded = np.pad(picture, ((8, 8), (8, 8), (0, 0)), mode="edge")
    left, top = 8 + int(move[0]), 8 + int(move[1])
    return padded[top : top + CANVAS, left : left + CANVAS]


def _moved(labels: Labels, corners: npt.NDArray[np.int64], side: int) -> Labels:
    """Labels relative to windows; an object whose centre lies outside is no longer labelled."""
    boxes = labels.boxes - np.tile(corners, 2)[:, None, :].astype(np.float32)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    inside = ((centre >= 0) & (centre < side)).all(axis=-1)
    return Labels(boxes, np.where(inside, labels.shapes, -1), np.where(inside, labels.colors, -1))


def assign(labels: Labels, cells: int) -> npt.NDArray[np.int64]:
    """Which object (index, or -1) each cell of a `cells` x `cells` grid carries: (B, cells, cells)."""
    edges = np.arange(cells) * STRIDE
    left, top, right, bottom = (labels.boxes[..., k][:, :, None, None] for k in range(4))
    x, y = edges[None, None, None, :], edges[None, None, :, None]
    wide = np.clip(np.minimum(right, x + STRIDE) - np.maximum(left, x), 0, None)
    high = np.clip(np.minimum(bottom, y + STRIDE) - np.maximum(top, y), 0, None)
    area = wide * high
    share = area / np.minimum(STRIDE**2, (right - left) * (bottom - top)).clip(1)
    share = np.where((labels.shapes >= 0)[:, :, None, None], share, -1.0)
    best = share.argmax(axis=1)
    return np.where(share.max(axis=1) >= MIN_SHARE, best, -1)


def _loss(model: nn.Module, heads: Heads, batch: Tensor, labels: Labels, protocol: Protocol) -> Tensor:
    grid, pooled = encode_picture(model, normalise(batch))
    cells = grid.shape[-1]
    owner = assign(labels, cells)
    index = owner.clip(0).reshape(len(owner), -1)
    filled = torch.from_numpy(owner >= 0)
    # The class after the last one means "no object here".
    shape = np.take_along_axis(labels.shapes, index, 1).reshape(owner.shape)
    color = np.take_along_axis(labels.colors, index, 1).reshape(owner.shape)
    shape_target = torch.from_numpy(np.where(owner >= 0, shape, len(SHAPES)))
    color_target = torch.from_numpy(np.where(owner >= 0, color, len(COLORS)))
    loss = F.cross_entropy(heads.shape(grid), shape_target) + F.cross_entropy(heads.color(grid), color_target)
    box = np.take_along_axis(labels.boxes, index[..., None], 1).reshape(*owner.shape, 4)
    origin = (np.arange(cells, dtype=np.float32) + 0.5) * STRIDE
    centre = np.stack([*np.meshgrid(origin, origin)] * 2, axis=-1)
    target = torch.from_numpy(((box - centre) / STRIDE).astype(np.float32))
    away = F.smooth_l1_loss(heads.box(grid).permute(0, 2, 3, 1), target, reduction="none").mean(-1)
    loss = loss + protocol.box_weight * (away * filled).sum() / filled.sum().clamp(min=1)
    present = torch.zeros(len(batch), CLASSES)
    rows, slots = np.nonzero(labels.shapes >= 0)
    present[rows, labels.shapes[rows, slots] * len(COLORS) + labels.colors[rows, slots]] = 1.0
    absent = F.binary_cross_entropy_with_logits(heads.present(pooled), present, reduction="none").sum(1).mean()
    return loss + protocol.present_weight * absent / 4
