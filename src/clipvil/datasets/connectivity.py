"""The connectivity files of the Matterport3D simulator: one navigation graph a scan.

A file `<scan>_connectivity.json` is a list of viewpoints: `image_id`, `pose` (4 x 4, row by row; the position is its
last column, z up, metres), `included`, `visible` and `unobstructed` (one truth value a viewpoint). The place in the
list is the index of a viewpoint; viewpoints that are not included keep theirs. An edge joins two included viewpoints
whose `unobstructed` says so. `visible` and `height` are used by nothing. Source: the connectivity README of
peteanderson80/Matterport3DSimulator @ 589d091.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipvil.datasets.base import Row, parse_json, read_text
from clipvil.errors import DataError
from clipvil.simulator.graph import Graph

SUFFIX = "_connectivity.json"
Poses = Mapping[str, npt.NDArray[np.float64]]
"""Of each included viewpoint the rotation (3, 3) from its skybox to the world."""
_SLACK = 0.01
"""How far a matrix may be from a rotation: files are rounded."""


class Graphs(Mapping[str, Graph]):
    """The graphs of a folder by scan, each read when it is first asked for and then kept."""

    def __init__(self, folder: str | Path) -> None:
        """Looks at file names only. Raises DataError where the folder holds no connectivity files."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError("no such folder", file=self.folder, fix="name the folder of the connectivity files")
        self._scans = sorted(path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"*{SUFFIX}"))
        self._read: dict[str, Graph] = {}
        if not self._scans:
            raise DataError(f"holds no files *{SUFFIX}", file=self.folder)

    def __getitem__(self, scan: str) -> Graph:
        if scan not in self._read:
            if scan not in self:
                raise KeyError(scan)
            self._read[scan] = read_graph(self.folder / f"{scan}{SUFFIX}")
        return self._read[scan]

    def __contains__(self, scan: object) -> bool:
        return scan in self._read or scan in self._scans

    def __iter__(self) -> Iterator[str]:
        return iter(self._scans)

    def __len__(self) -> int:
        return len(self._scans)


def read_graph(path: str | Path) -> Graph:
    """Read one connectivity file. Raises DataError naming file, row (a viewpoint, from 1) and field."""
    path = Path(path)
    value = parse_json(read_text(path), file=path)
    if not isinstance(value, list) or not value:
        raise DataError("must be a list of viewpoints", file=path)
    return graph_from_rows(value, path, path.name.removesuffix(SUFFIX))


def graph_from_rows(value: list[Any], path: str | Path, scan: str) -> Graph:
    """The same for JSON that is in memory already."""
    rows = [Row(item, path, number) for number, item in enumerate(value, start=1)]
    size = len(rows)
    names: dict[str, int] = {}
    included, open_ways = np.zeros(size, bool), np.zeros((size, size), bool)
    position = np.zeros((size, 3))
    for number, row in enumerate(rows):
        name = row.text("image_id")
        if names.setdefault(name, number) != number:
            raise row.error(f"viewpoint {name} already stands in row {names[name] + 1}", "image_id")
        included[number] = _truths(row, "included", [row.raw("included")], 1)[0]
        open_ways[number] = _truths(row, "unobstructed", row.raw("unobstructed"), size)
        position[number] = _position(row)
    edges = open_ways & included & included[:, None]
    _check_edges(edges, rows)
    degree = edges.sum(axis=1)
    neighbours = np.full((size, max(1, int(degree.max()))), -1, np.int32)
    sources, targets = np.nonzero(edges)
    begin = np.cumsum(degree) - degree
    neighbours[sources, np.arange(len(sources)) - begin[sources]] = targets
    return Graph(scan, tuple(names), included, position, neighbours)


def read_poses(path: str | Path) -> Poses:
    """The rotations of the included viewpoints of a connectivity file, which drawing views from skyboxes needs.

    Raises DataError as `read_graph`, and for a pose that does not rotate.
    """
    path = Path(path)
    value = parse_json(read_text(path), file=path)
    if not isinstance(value, list) or not value:
        raise DataError("must be a list of viewpoints", file=path)
    out = {}
    for number, item in enumerate(value, start=1):
        row = Row(item, path, number)
        if not _truths(row, "included", [row.raw("included")], 1)[0]:
            continue
        _position(row)
        turned = np.array(row.raw("pose"), np.float64).reshape(4, 4)[:3, :3]
        if np.abs(turned @ turned.T - np.eye(3)).max() > _SLACK or np.linalg.det(turned) < 0:
            raise row.error("its first three rows and columns must be a rotation", "pose")
        out[row.text("image_id")] = turned
    return out


def _truths(row: Row, name: str, values: Any, size: int) -> Any:
    if not isinstance(values, list):
        raise row.error("must be a list of true and false", name)
    if len(values) != size:
        raise row.error(f"holds {len(values)} values, but the file has {size} viewpoints", name)
    if not set(map(type, values)) <= {bool}:
        raise row.error("must hold nothing but true and false", name)
    return values


def _position(row: Row) -> tuple[float, float, float]:
    pose = row.raw("pose")
    if not isinstance(pose, list) or len(pose) != 16:
        raise row.error("must be a list of 16 numbers", "pose")
    if not set(map(type, pose)) <= {int, float} or not all(abs(number) < 1e6 for number in pose):
        raise row.error("must hold finite numbers (metres) only", "pose")
    return pose[3], pose[7], pose[11]


def _check_edges(edges: npt.NDArray[np.bool_], rows: list[Row]) -> None:
    odd = np.argwhere(edges & ~edges.T)
    if len(odd):
        here, there = (int(number) for number in odd[0])
        raise rows[here].error(
            f"leads to row {there + 1}, which does not lead back", "unobstructed", "edges must hold both ways"
        )
    loops = np.flatnonzero(edges.diagonal())
    if len(loops):
        raise rows[int(loops[0])].error("leads to itself", "unobstructed")
