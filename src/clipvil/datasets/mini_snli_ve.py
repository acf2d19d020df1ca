"""Visual entailment in the miniature world: written on first use in SNLI-VE's format, then read by that very reader.

Data section: `format: mini_snli_ve`, `root` (where the world is or will be), optional `sizes` (pictures a split) and
`seed`, as for the format `mini`. `clipvil.mini.hypotheses` has the rule behind the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.datasets import mini, snli_ve
from clipvil.datasets.base import Dataset, option_path
from clipvil.datasets.mini import split_names

__all__ = ["load", "split_names"]


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the world when `root` holds none. Raises as the format `mini` does."""
    mini.ensure_companion(data, split, "snli_ve")
    entry = {
        "pairs": f"snli_ve_{split}.jsonl",
        "images": f"images/{split}",
        "template": f"mini_{split}_{{:012d}}.png",
    }
    dataset = snli_ve.load({"format": "snli_ve", "root": option_path(data, "root"), split: entry}, split)
    return Dataset("mini_snli_ve", split, dataset.records, dataset.pictures)
