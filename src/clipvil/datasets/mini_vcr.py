"""VCR in the miniature world: written on first use in the official layout, then read by that very reader.

Data section: `format: mini_vcr`, `root` (where the world is or will be), optional `sizes` (pictures a split) and
`seed`, as for the format `mini`. Beside the world's splits there are the shortcut-shifted sets of its test split,
`rule_singular` and `rule_plural`, as `clipvil vcr shortcuts` makes them of any VCR file.
`clipvil.mini.commonsense` has the rule behind questions and choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.datasets import mini, vcr
from clipvil.datasets.base import Dataset, option_path
from clipvil.datasets.vcr_shortcuts import RULES, write_shortcuts
from clipvil.mini import corpora
from clipvil.mini.companions import METADATA, file_of

_OF = "test"
"""The split that the shifted sets are made of."""
LEAST = 20
"""Pictures that it must have for that: fewer may have no question about two things."""


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The splits of the world, and behind them the shifted sets of its test split, where that has `LEAST` pictures."""
    names = mini.split_names(data)
    return [*names, *(RULES if _pictures(data) >= LEAST else ())]


def _pictures(data: Mapping[str, Any]) -> int:
    """How many pictures the test split has or will have."""
    root = option_path(data, "root")
    if data.get("sizes"):
        return corpora.checked_sizes(data["sizes"]).get(_OF, 0)
    there = (root / corpora.MANIFEST).exists()
    return (corpora.open_corpus(root).sizes if there else corpora.SIZES).get(_OF, 0)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the world when `root` holds none. Raises as the format `mini` does."""
    shifted = split in RULES and _pictures(data) >= LEAST
    mini.ensure_companion(data, _OF if shifted else split, "vcr")
    root = option_path(data, "root")
    file = root / file_of("vcr", _OF if shifted else split)
    if shifted:
        # Always anew: it takes a second, and what lies there may be of another world.
        file = write_shortcuts(file, root)[split].path
    entry = {"annotations": file.name, "images": "images", "metadata": METADATA}
    dataset = vcr.load({"format": "vcr", "root": root, split: entry}, split)
    return Dataset("mini_vcr", split, dataset.records, dataset.pictures)
