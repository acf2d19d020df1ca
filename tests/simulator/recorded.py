"""The recorded navigation graphs, unpacked where they are present."""

from __future__ import annotations

import json
import tarfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from clipvil.datasets.connectivity import Graphs
from tests.shared import shared


@cache
def _unpacked(archive: Path) -> Path:
    folder = Path(mkdtemp(prefix="clipvil-graphs-"))
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
