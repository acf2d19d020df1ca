"""Hold out whole pictures, the same ones on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping


def split_pictures(image_ids: Iterable[str], fractions: Mapping[str, float], *, seed: int = 0) -> dict[str, str]:
    """Give each picture one of the named splits, or "train": image id -> split.

    Pictures are ordered by a hash of seed and id, and each split takes its rounded share (at least one picture) from
    the front. So the parts are exact in size, independent of file order, and never share a picture.
    """
    ids = sorted(
        set(image_ids), key=lambda image: hashlib.sha256(f"{seed}/{image}".encode("utf-8", "surrogatepass")).digest()
    )
    assigned = dict.fromkeys(ids, "train")
    start = 0
    for name, fraction in fractions.items():
        size = max(1, round(fraction * len(ids))) if fraction > 0 else 0
        assigned.update(dict.fromkeys(ids[start : start + size], name))
        start += size
    return assigned
