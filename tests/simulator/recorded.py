"""The recorded navigation graphs, unpacked where they are present."""

from __future__ import annotations

import json
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clipvil.datasets.connectivity import Graphs
from tests.shared import shared

_FOLDERS: list[TemporaryDirectory[str]] = []
"""Kept until the process ends, and removed with it."""


@cache
def _unpacked(archive: Path) -> Path:
    _FOLDERS.append(TemporaryDirectory(prefix="clipvil-graphs-"))
    folder = Path(_FOLDERS[-1].name)
    with tarfile.open(archive) as stream:
        stream.extractall(folder, filter="data")
    return next(folder.rglob("*_connectivity.json")).parent


@cache
def fixture_graphs() -> Graphs:
    return Graphs(_unpacked(shared("fixtures", "navigation", "connectivity.tar.xz")))


@cache
def real_graphs() -> Graphs:
    return Graphs(_unpacked(shared("data", "r2r", "connectivity.tar.xz")))


def fixture(name: str) -> Any:
    return json.loads(shared("fixtures", "navigation", name).read_text())
