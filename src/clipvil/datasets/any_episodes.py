"""Episodes of whichever navigation corpus a file holds, for scoring and walking without a recipe."""

from __future__ import annotations

from pathlib import Path

from clipvil.datasets.episodes import GraphMap, episode_rows
from clipvil.datasets.r2r import read_r2r
from clipvil.datasets.rxr import read_rxr
from clipvil.errors import DataError
from clipvil.records import Episode


def read_any(path: str | Path, *, graphs: GraphMap | None = None) -> list[Episode]:
    """An R2R (or R4R) file by its `instructions`, an RxR guide file by its `instruction`. Raises DataError."""
    first = next(iter(episode_rows(path)), None)
    if first is None:
        raise DataError("holds no episodes", file=path)
    if first.has("instructions") or "instruction" not in first.value:
        return read_r2r(path, graphs=graphs)
    return read_rxr(path, graphs=graphs)
