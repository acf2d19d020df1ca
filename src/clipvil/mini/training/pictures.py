"""The pictures the encoders are trained on, drawn once by worker processes into a memory-mapped file."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipvil.mini.captions import WRONG_RATE, alt_text
from clipvil.mini.drawing import draw
from clipvil.mini.training.vocabulary import CONTEXT, WordTable
from clipvil.mini.world import CANVAS, Scene, close_up, scene, stream

CLOSE_UPS = 4
"""Windows a scene that are texts' pictures of their own, as the web shows details beside whole views."""
WINDOW = 64
"""Side of a close-up in pixels; it is cut out of the picture, so objects keep their size in pixels."""
CHUNK = 500
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PairCorpus:
    """Pictures with texts. Text k < `CLOSE_UPS` of a scene belongs to its window k, the last one to the whole."""

    pictures: Bytes
    """(N, 128, 128, 3)"""
    windows: Bytes
    """(N, CLOSE_UPS, 2): left and top of each window in pixels"""
    tokens: Bytes
    """(N, CLOSE_UPS + 1, CONTEXT), padded with zeros"""


def draw_range(split: str, seed: int, start: int, stop: int) -> Bytes:
    """Pictures `start` to `stop` of a split as uint8 (n, 128, 128, 3)."""
    return np.stack([np.asarray(draw(scene(seed, split, i), CANVAS)) for i in range(start, stop)])


def _pairs(job: tuple[str, int, int, int]) -> tuple[int, Bytes, Bytes, Bytes]:
    split, seed, start, stop = job
    table = WordTable()
    windows = np.zeros((stop - start, CLOSE_UPS, 2), np.uint8)
    tokens = np.zeros((stop - start, CLOSE_UPS + 1, CONTEXT), np.uint8)
    for row, index in enumerate(range(start, stop)):
        rng = stream(seed, split, index, "texts")
        whole = scene(seed, split, index)
        for k in range(CLOSE_UPS + 1):
            # A wrong text is the text of another scene's view of the same kind.
            source = whole
            if rng.random() < WRONG_RATE:
                source = scene(seed, split, index + 1 + rng.randrange(1000))
            if k < CLOSE_UPS:
                left, top = _window(rng, whole)
                windows[row, k] = left, top
                source = close_up(source, left, top, WINDOW)
            ids = table.encode(alt_text(rng, source))
            tokens[row, k, : len(ids)] = ids
    return start, draw_range(split, seed, start, stop), windows, tokens


def _window(rng: random.Random, whole: Scene) -> tuple[int, int]:
    """A window around one of the objects, off centre by up to a third of its side."""
    thing = whole.objects[rng.randrange(len(whole.objects))]
    limit = CANVAS - WINDOW
    left = thing.x - WINDOW / 2 + rng.uniform(-20, 20)
    top = thing.y - WINDOW / 2 + rng.uniform(-20, 20)
    return round(min(max(left, 0), limit)), round(min(max(top, 0), limit))


def draw_pairs(split: str, seed: int, count: int, folder: Path, workers: int = 2) -> PairCorpus:
    """Draw `count` scenes with their texts; the pictures are a memory-mapped .npy file in `folder`."""
    shape = (count, CANVAS, CANVAS, 3)
    pictures = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.uint8, shape)
    windows = np.zeros((count, CLOSE_UPS, 2), np.uint8)
    tokens = np.zeros((count, CLOSE_UPS + 1, CONTEXT), np.uint8)
    jobs = [(split, seed, start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        for start, drawn, where, ids in pool.map(_pairs, jobs):
            stop = start + len(drawn)
            pictures[start:stop], windows[start:stop], tokens[start:stop] = drawn, where, ids
    return PairCorpus(pictures, windows, tokens)


def cut(pictures: Bytes, rows: npt.NDArray[np.int64], corners: npt.NDArray[Any]) -> Bytes:
    """Windows (n, WINDOW, WINDOW, 3) at `corners` (n, 2: left, top) of the pictures `rows`."""
    out = np.empty((len(rows), WINDOW, WINDOW, 3), np.uint8)
    for k, (row, (left, top)) in enumerate(zip(rows, corners, strict=True)):
        out[k] = pictures[row, int(top) : int(top) + WINDOW, int(left) : int(left) + WINDOW]
    return out
