"""Pre-training pairs in the miniature world: written on first use in LXMERT's format, then read by that very reader.

Data section: `format: mini_lxmert`, `root` (where the world is or will be), optional `sizes` (pictures a split) and
`seed`, as for the format `mini`. There are the splits train and val alone: no picture of a test split is pre-trained
on. `sources` ([mscoco, vqa, gqa]) takes some of the sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.datasets import lxmert, mini
from clipvil.datasets.base import Dataset, option_path
from clipvil.datasets.mini import split_names as world_splits
from clipvil.errors import DataError
from clipvil.mini.companions import PRETRAINING_SPLITS

__all__ = ["load", "split_names"]


def split_names(data: Mapping[str, Any]) -> list[str]:
    """train and val, as far as the world has them."""
    return [split for split in world_splits(_world(data)) if split in PRETRAINING_SPLITS]


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the world when `root` holds none. Raises as the format `mini` does."""
    names = split_names(data)
    if split not in names:
        raise DataError(
            f"there is no split '{split}'", fix=f"this miniature world is pre-trained on {', '.join(names)}"
        )
    mini.ensure_companion(_world(data), split, "lxmert")
    entry: dict[str, Any] = {
        "pairs": f"lxmert_{split}.json",
        "images": f"images/{split}",
        "template": f"mini_{split}_{{:012d}}.png",
    }
    if data.get("sources") is not None:
        entry["sources"] = data["sources"]
    dataset = lxmert.load({"format": "lxmert", "root": option_path(data, "root"), split: entry}, split)
    return Dataset("mini_lxmert", split, dataset.records, dataset.pictures)


def _world(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "sources"}
