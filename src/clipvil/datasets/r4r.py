"""Room-for-Room (arXiv 1905.12255): pairs of R2R paths joined into longer ones that twist and turn.

Two paths of a scan are joined where the second begins at most 3 m (along the graph) from the end of the first; the
shortest way fills the gap. A path may be joined to itself. Every instruction of the first is put before every one of
the second, with nothing between them, as published. The corpus is not distributed; it is built from R2R's files:

    clipvil navigation r4r --episodes R2R_val_seen.json --graphs connectivity --out R4R_val_seen.json

The data section is that of `r2r`, with `format: r4r`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.datasets import r2r
from clipvil.datasets.base import Dataset, Row
from clipvil.datasets.episodes import GraphMap, episode_rows, heading_of, path_of, words_of
from clipvil.datasets.r2r import split_names
from clipvil.errors import DataError
from clipvil.files import atomic_write_json
from clipvil.simulator.graph import Graph, find_graph

__all__ = ["Built", "build", "load", "split_names", "write_r4r"]
THRESHOLD = 3.0


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split of files that `write_r4r`, or the published script, wrote."""
    dataset = r2r.load(data, split)
    return Dataset("r4r", split, dataset.records, dataset.pictures)


@dataclass(frozen=True)
class Built:
    """What was built: rows of the file, and how many pairs lay too far apart. Means are in metres and viewpoints."""

    rows: list[dict[str, Any]]
    too_far: int

    @property
    def instructions(self) -> int:
        """How many instructions there are in all."""
        return sum(len(row["instructions"]) for row in self.rows)

    def mean(self, field: str) -> float:
        """The mean over paths of a number, or of the length of a list; 0 where there are no paths."""
        values = [row[field] if isinstance(row[field], float) else len(row[field]) for row in self.rows]
        return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True)
class _Path:
    key: Any
    path: tuple[str, ...]
    distance: float
    heading: float
    instructions: list[str]


def build(path: str | Path, graphs: GraphMap, *, threshold: float = THRESHOLD) -> Built:
    """Join the paths of an R2R file. Raises DataError naming file, row and field, as for a path that leaves its graph.

    Scans come in the order of their first path, pairs in file order, first paths outermost.
    """
    scans: dict[str, list[_Path]] = {}
    for row in episode_rows(path):
        scans.setdefault(row.text("scan"), []).append(_read(row, graphs))
    rows: list[dict[str, Any]] = []
    too_far = 0
    for scan, paths in scans.items():
        graph = find_graph(graphs, scan)
        for first in paths:
            end = graph.index[first.path[-1]]
            for second in paths:
                if graph.distance[end, graph.index[second.path[0]]] > threshold:
                    too_far += 1
                else:
                    rows.append({"path_id": len(rows), "scan": scan, **_joined(graph, first, second)})
    return Built(rows, too_far)


def _read(row: Row, graphs: GraphMap) -> _Path:
    distance, texts = row.raw("distance"), row.raw("instructions")
    if isinstance(distance, bool) or not isinstance(distance, int | float):
        raise row.error("must be a number (metres)", "distance")
    if not isinstance(texts, list) or not texts:
        raise row.error("must be a list of strings, not empty", "instructions")
    said = [words_of(row, text, "instructions") for text in texts]
    key = row.identifier("path_id")
    return _Path(int(key) if key.isdecimal() else key, path_of(row, graphs), float(distance), heading_of(row), said)


def _joined(graph: Graph, first: _Path, second: _Path) -> dict[str, Any]:
    end, begin = graph.index[first.path[-1]], graph.index[second.path[0]]
    start, goal = graph.index[first.path[0]], graph.index[second.path[-1]]

    def names(way: list[int]) -> list[str]:
        return [graph.viewpoints[number] for number in way]

    gap = float(graph.distance[end, begin])
    return {
        "path": [*first.path[:-1], *names(graph.shortest_path(end, begin)), *second.path[1:]],
        "distance": first.distance + gap + second.distance,
        "heading": first.heading,
        "instructions": [one + other for one in first.instructions for other in second.instructions],
        "shortest_path_distance": float(graph.distance[start, goal]),
        "shortest_path": names(graph.shortest_path(start, goal)),
        "first_path_id": first.key,
        "second_path_id": second.key,
    }


def write_r4r(built: Built, path: str | Path) -> None:
    """Write the rows as a file of R2R's format. Raises DataError where no two paths could be joined."""
    if not built.rows:
        raise DataError(f"no two paths can be joined; {built.too_far} pairs lie too far apart")
    atomic_write_json(path, built.rows)
