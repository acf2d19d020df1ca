"""The captions of the miniature world: written on first use in COCO's format, then read by that very reader.

Data section: `format: mini_captions`, `root` (where the corpus is or will be), optional `sizes` (pictures a split) and
`seed`, as for the format `mini`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.datasets import coco_captions, mini
from clipvil.datasets.base import Dataset, option_path
from clipvil.datasets.mini import split_names

__all__ = ["load", "split_names"]


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the corpus first when `root` holds none. Raises as the format `mini` does."""
    mini.ensure(data, split)
    root = option_path(data, "root")
    entry = {"captions": f"captions_{split}.json", "images": f"images/{split}"}
    dataset = coco_captions.load({"format": "coco_captions", "root": root, split: entry}, split)
    return Dataset("mini_captions", split, dataset.records, dataset.pictures)
