"""The official navigation metrics, over all episodes at once.

With D the shortest-path distance in the navigation graph, P the visited viewpoints (turns on the spot removed), R the
reference path and a margin of 3 m:

- PL: sum of D over consecutive viewpoints; NE: D from the last one to the goal R[-1]; OE: the least D of any to it
- SR: NE below the margin (strictly), OSR: OE below it; SPL: SR * l / max(l, PL, 0.01) with l = D from start to goal
- nDTW: exp(-DTW(P, R) / (margin * |R|)), sDTW: SR * nDTW
- CLS: C * EL / (EL + |EL - PL|), C the mean over R of exp(-least D to P / margin), EL = C * length of R

Sources: the evaluators of R2R (Matterport3DSimulator @ 589d091), CLIP-ViL @ d806158 and Google's R4R; nDTW is arXiv
1907.05446, CLS arXiv 1905.12255, SPL arXiv 1807.06757. Checked against recorded values of the official code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clipvil.errors import DataError, UsageError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Distance = Callable[[Indices, Indices], Floats]
Shortest = Literal["graph", "reference"]

METRICS = ("PL", "NE", "OE", "SR", "OSR", "SPL", "nDTW", "sDTW", "CLS")
METRES = ("PL", "NE", "OE")
"""Those in metres; the others are shares from 0 to 1."""
MARGIN = 3.0
_CHUNK = 512


def without_repeats(path: Sequence[int]) -> list[int]:
    """A path with consecutive repetitions, which are turns on the spot, removed."""
    return [place for i, place in enumerate(path) if i == 0 or place != path[i - 1]]


def navigation_scores(
    distance: Distance,
    predicted: Sequence[Sequence[int]],
    reference: Sequence[Sequence[int]],
    *,
    margin: float = MARGIN,
    shortest: Shortest = "graph",
    repeats: bool = False,
) -> dict[str, Floats]:
    """Every metric of `METRICS` by name, (N,) float64, in the order of the N episodes.

    `distance` takes two index arrays of one shape and gives metres; paths hold such indices. `shortest` is what SPL
    takes as the length l: the way through the graph (R2R, CLIP-ViL), or the reference path (HAMT, whose SPL on RxR is
    therefore not comparable). `repeats` leaves turns on the spot in the path for nDTW and CLS, as evaluators fed with
    raw trajectories do. Raises DataError for an empty path and where no way joins two viewpoints of an episode.
    """
    if len(predicted) != len(reference):
        raise DataError(f"{len(predicted)} predicted paths, but {len(reference)} reference paths")
    if shortest not in get_args(Shortest):
        raise UsageError(f"unknown length '{shortest}'; choose one of {', '.join(get_args(Shortest))}")
    said = [list(path) if repeats else without_repeats(path) for path in predicted]
    for number, (path, other) in enumerate(zip(said, reference, strict=True)):
        if not path or not len(other):
            raise DataError(f"episode {number} has an empty {'reference' if path else 'predicted'} path")
    out = {name: np.empty(len(said)) for name in METRICS}
    # Episodes of similar length together: a batch is as wide as its longest.
    order = sorted(range(len(said)), key=lambda n: (len(said[n]), len(reference[n])))
    for start in range(0, len(order), _CHUNK):
        chosen = order[start : start + _CHUNK]
        part = _chunk(distance, [said[n] for n in chosen], [reference[n] for n in chosen], margin, shortest)
        for name, values in part.items():
            out[name][chosen] = values
    return out


def _padded(paths: Sequence[Sequence[int]]) -> tuple[Indices, Indices]:
    """Paths (B, L) filled up with their last viewpoint, and their lengths (B,)."""
    lengths = np.array([len(path) for path in paths], np.int64)
    out = np.empty((len(paths), int(lengths.max())), np.int64)
    for row, path in zip(out, paths, strict=True):
        row[: len(path)], row[len(path) :] = path, path[-1]
    return out, lengths


def _chunk(
    distance: Distance,
    predicted: Sequence[Sequence[int]],
    reference: Sequence[Sequence[int]],
    margin: float,
    shortest: Shortest,
) -> dict[str, Floats]:
    (said, n), (right, m) = _padded(predicted), _padded(reference)
    shape = (len(said), said.shape[1], right.shape[1])
    between = distance(np.broadcast_to(said[:, :, None], shape), np.broadcast_to(right[:, None, :], shape))
    if not np.isfinite(between).all():
        raise DataError("no way in the graph joins a predicted viewpoint and the reference path")
    # The filling repeats the last viewpoint: it adds no length, and no nearer viewpoint.
    length = distance(said[:, :-1], said[:, 1:]).sum(axis=1)
    way = distance(right[:, :-1], right[:, 1:]).sum(axis=1)
    to_goal = between[:, :, -1]
    error, nearest = to_goal[:, -1], to_goal.min(axis=1)
    reached = (error < margin).astype(np.float64)
    least = distance(right[:, 0], right[:, -1]) if shortest == "graph" else way
    likeness = np.exp(-_warped(between, n, m) / (margin * m))
    real = np.arange(right.shape[1]) < m[:, None]
    cover = (np.exp(-between.min(axis=1) / margin) * real).sum(axis=1) / m
    expected = cover * way
    spread = expected + np.abs(expected - length)
    # Both zero: nothing to walk and nothing walked.
    fitting = np.divide(expected, spread, out=np.ones_like(spread), where=spread > 0)
    return {
        "PL": length,
        "NE": error,
        "OE": nearest,
        "SR": reached,
        "OSR": (nearest < margin).astype(np.float64),
        "SPL": reached * least / np.maximum(np.maximum(least, length), 0.01),
        "nDTW": likeness,
        "sDTW": reached * likeness,
        "CLS": cover * fitting,
    }


def _warped(between: Floats, n: Indices, m: Indices) -> Floats:
    """Dynamic time warping: the least sum of distances of a monotone alignment, (B,)."""
    count, rows, columns = between.shape
    cost = np.ascontiguousarray(between.transpose(1, 2, 0))
    total = np.full((rows + 1, columns + 1, count), np.inf)
    total[0, 0] = 0.0
    for i in range(rows):
        for j in range(columns):
            best = np.minimum(np.minimum(total[i, j + 1], total[i + 1, j]), total[i, j])
            total[i + 1, j + 1] = cost[i, j] + best
    return total[n, m, np.arange(count)]
