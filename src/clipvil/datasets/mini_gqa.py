"""GQA questions in the miniature world: written on first use in GQA's format, then read by that very reader.

Data section: `format: mini_gqa`, `root` (where the world is or will be), optional `sizes` (pictures a split) and
`seed`, as for the format `mini`. Only balanced questions are read; those that they entail stand in the same files,
for consistency: read them with the format `gqa` and score them with `clipvil score gqa`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.datasets import gqa, mini
from clipvil.datasets.base import Dataset, option_path
from clipvil.datasets.mini import split_names

__all__ = ["load", "split_names"]


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the world when `root` holds none. Raises as the format `mini` does."""
    mini.ensure_companion(data, split, "gqa")
    entry = {
        "questions": f"gqa_{split}.json",
        "balanced": True,
        "images": f"images/{split}",
        "template": f"mini_{split}_{{:012d}}.png",
    }
    dataset = gqa.load({"format": "gqa", "root": option_path(data, "root"), split: entry}, split)
    return Dataset("mini_gqa", split, dataset.records, dataset.pictures)
