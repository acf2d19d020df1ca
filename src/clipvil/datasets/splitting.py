"""Hold out whole pictures, the same ones on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from clipvil.errors import DataError

HOLDOUT = {"val": 0.1, "test": 0.1}


def split_pictures(image_ids: Iterable[str], fractions: Mapping[str, float], *, seed: int = 0) -> dict[str, str]:
    """Give each picture one of the named splits, or "train": image id -> split.

    Pictures are ordered by a hash of seed and id, and each split takes its rounded share (at least one picture) from
    the front. So the parts are exact in size, independent of file order, and never share a picture.

    Raises DataError when no picture would be left for "train".
    """
    ids = sorted(
        set(image_ids), key=lambda image: hashlib.sha256(f"{seed}/{image}".encode("utf-8", "surrogatepass")).digest()
    )
    assigned = dict.fromkeys(ids, "train")
    sizes = {name: max(1, round(fraction * len(ids))) if fraction > 0 else 0 for name, fraction in fractions.items()}
    if sum(sizes.values()) >= len(ids):
        few = "1 picture is" if len(ids) == 1 else f"{len(ids)} pictures are"
        raise DataError(
            f"{few} too few to split: {' and '.join(sizes)} would leave none for train",
            fix="add pictures, or a column 'split' that says which rows are for train, val and test",
        )
    start = 0
    for name, size in sizes.items():
        assigned.update(dict.fromkeys(ids[start : start + size], name))
        start += size
    return assigned


def checked_holdout(data: Mapping[str, Any]) -> dict[str, float]:
    """The entry `holdout` of a data section, or `HOLDOUT`. Raises DataError unless it leaves something for train."""
    holdout = HOLDOUT if data.get("holdout") is None else data["holdout"]
    good = isinstance(holdout, Mapping) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 1 for v in holdout.values()
    )
    if not good or sum(holdout.values()) >= 1 or "train" in holdout:
        raise DataError(
            "must map split names to shares between 0 and 1 that leave some for train", field="data.holdout"
        )
    return dict(holdout)
