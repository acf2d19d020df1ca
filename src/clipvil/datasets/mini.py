"""The miniature world as a corpus: written on first use in VQA v2's file format, then read by that very reader.

Data section: `format: mini`, `root` (where the corpus is or will be), optional `sizes` (pictures a split) and `seed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.datasets import vqa_v2
from clipvil.datasets.base import Dataset, known, option_int, option_path
from clipvil.errors import DataError
from clipvil.mini import corpora

_ENTRIES = ("format", "root", "sizes", "seed")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """train, val, test, and shifted (unseen pairs of colour and shape, other answer priors), as far as they exist."""
    known(data, _ENTRIES)
    if data.get("sizes"):
        return list(corpora.checked_sizes(data["sizes"]))
    root = option_path(data, "root")
    return list(corpora.open_corpus(root).sizes if (root / corpora.MANIFEST).exists() else corpora.SIZES)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split, writing the corpus first when `root` holds none.

    Without `sizes` whatever corpus is there serves. Raises UsageError when it is another one than `sizes` and `seed`
    ask for, DataError when it is damaged.
    """
    ensure(data, split)
    root = option_path(data, "root")
    entry = {
        "questions": f"questions_{split}.json",
        "annotations": f"annotations_{split}.json",
        "images": f"images/{split}",
        "template": f"mini_{split}_{{:012d}}.png",
    }
    dataset = vqa_v2.load({"format": "vqa_v2", "root": root, split: entry}, split)
    return Dataset("mini", split, dataset.records, dataset.pictures)


def ensure(data: Mapping[str, Any], split: str) -> None:
    """Write the corpus when `root` holds none. Raises DataError for a split that it has not, and as `load` does."""
    names = split_names(data)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"this miniature world has {', '.join(names)}")
    root = option_path(data, "root")
    if data.get("sizes") or not (root / corpora.MANIFEST).exists():
        corpora.write_corpus(root, data.get("sizes"), option_int(data, "seed", 0))


def ensure_companion(data: Mapping[str, Any], split: str, kind: str) -> None:
    """As `ensure`, and write the companion of that kind where it is not there: see `clipvil.mini.companions`."""
    from clipvil.mini.companions import write_companion

    ensure(data, split)
    write_companion(corpora.open_corpus(option_path(data, "root")), kind)
