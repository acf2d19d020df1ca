"""The miniature world as a corpus: written on first use in VQA v2's file format, then read by that very reader.

Data section: `format: mini`, `root` (where the corpus is or will be), optional `sizes` (pictures a split) and `seed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets import vqa_v2
from clipvil.datasets.base import Dataset, known, option
from clipvil.errors import DataError

SPLITS = ("train", "val", "test", "shifted")
_ENTRIES = ("format", "root", "sizes", "seed")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """train, val, test, and shifted: unseen pairs of colour and shape, other answer priors."""
    sizes = data.get("sizes")
    return [name for name in SPLITS if not sizes or name in sizes]


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the corpus first when `root` holds none."""
    known(data, _ENTRIES)
    root = Path(option(data, "root"))
    if split not in split_names(data):
        raise DataError(f"there is no split '{split}'", fix=f"the miniature world has {', '.join(split_names(data))}")
    if not (root / "manifest.json").exists():
        from clipvil.mini.corpora import write_corpus

        write_corpus(root, data.get("sizes"), int(data.get("seed") or 0))
    dataset = vqa_v2.load({"format": "vqa_v2", "root": root, split: _entry(root, split)}, split)
    return Dataset("mini", split, dataset.records, dataset.pictures)


def _entry(root: Path, split: str) -> dict[str, str]:
    return {
        "questions": f"questions_{split}.json",
        "annotations": f"annotations_{split}.json",
        "images": f"images/{split}",
    }
