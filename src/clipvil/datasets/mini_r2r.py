"""The miniature houses as a corpus: written on first use in R2R's formats, then read by that very reader.

Data section: `format: mini_r2r`, `root` (where the houses are or will be), optional `sizes` (houses a group), `seed`,
and `val`: which split steps are chosen by (`val_unseen`, or `val_seen`), which is then called val.
The pictures of a split are the 36 views of every viewpoint of its houses, `<scan>_<viewpoint>_<view>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, known, option_int, option_path
from clipvil.datasets.connectivity import Graphs
from clipvil.datasets.r2r import read_r2r
from clipvil.errors import DataError
from clipvil.mini import house_corpus
from clipvil.simulator.views import VIEWS

_ENTRIES = ("format", "root", "sizes", "seed", "val")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """train, val_seen (its houses, other paths), val_unseen and test (other houses), as far as they exist."""
    known(data, _ENTRIES)
    names = _written(data)
    chosen = data.get("val")
    if chosen is None:
        return names
    if chosen not in names or not str(chosen).startswith("val_"):
        raise DataError(
            f"must be val_seen or val_unseen, and among {', '.join(names)}, not {chosen!r}", field="data.val"
        )
    # Unseen houses first: the first split after val is what a comparison reports before all others.
    return ["train", "val", *sorted((name for name in names if name not in ("train", chosen)), key="test".__ne__)]


def _written(data: Mapping[str, Any]) -> list[str]:
    if data.get("sizes"):
        return house_corpus.split_names(house_corpus.checked_sizes(data["sizes"]))
    root = option_path(data, "root")
    there = (root / house_corpus.MANIFEST).exists()
    return house_corpus.split_names(house_corpus.open_houses(root).sizes if there else house_corpus.SIZES)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the houses first when `root` holds none.

    Without `sizes` whatever houses are there serve. Raises UsageError when they are others than `sizes` and `seed` ask
    for, DataError when they are damaged.
    """
    names = split_names(data)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"these miniature houses have {', '.join(names)}")
    root = option_path(data, "root")
    if data.get("sizes") or not (root / house_corpus.MANIFEST).exists():
        house_corpus.write_houses(root, data.get("sizes"), option_int(data, "seed", 0))
    graphs = Graphs(graph_folder(data))
    records = read_r2r(root / f"R2R_{data['val'] if split == 'val' else split}.json", graphs=graphs)
    pictures: dict[str, Path] = {}
    for scan in dict.fromkeys(record.scan for record in records):
        for viewpoint in graphs[scan].viewpoints:
            for view in range(VIEWS):
                name = house_corpus.view_id(scan, viewpoint, view)
                pictures[name] = root / house_corpus.view_file(scan, viewpoint, view)
    return Dataset("mini_r2r", split, records, pictures, graphs)


def graph_folder(data: Mapping[str, Any]) -> Path:
    """Where the connectivity files of the houses are."""
    return option_path(data, "root") / "connectivity"
