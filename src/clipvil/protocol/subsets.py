"""Few shots: nested subsets of the training pictures, stratified by what the records ask, written as lists of ids.

All pictures are brought into one order, of which a subset is the beginning: so a smaller subset is part of a larger
one. The order of a draw follows from the ids alone, by sha256("draw/" + number + "/" + image_id), and is stratified:

- A record's stratum is its label (entailment), its kind of answer (VQA) or its first word (anything else).
- A picture's stratum is that of which it has the most records beyond its share in the corpus; ties go to the rarer one.
- The k-th picture (from 0, by the hash) of a stratum of n stands at (k + 1/2) / n, and all are sorted by that.

So the beginnings hold every stratum of pictures in its proportion, within one picture.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clipvil.datasets.columns import column_of
from clipvil.datasets.selection import read_ids
from clipvil.errors import UsageError
from clipvil.files import atomic_write

_STRATA = ("label", "answer_type")


@dataclass(frozen=True)
class Subset:
    """One list as it was written: pictures and records by stratum, and the SHA-256 (hex) of the file."""

    file: str
    sha256: str
    draw: int
    pictures: int
    records: int
    strata: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def strata_of(records: Sequence[Any]) -> list[str]:
    """The stratum of each record."""
    for name in _STRATA:
        if records and hasattr(records[0], name):
            found = column_of(records, name)
            if any(found):
                return found
    return [_first_word(record) for record in records]


def picture_order(image_ids: Sequence[str], strata: Sequence[str], draw: int) -> list[str]:
    """All pictures once, in the order of a draw. `image_ids` and `strata` (N,) are those of the records."""
    whole = Counter(strata)
    of: dict[str, Counter[str]] = {}
    for image_id, stratum in zip(image_ids, strata, strict=True):
        of.setdefault(image_id, Counter())[stratum] += 1
    groups: dict[str, list[str]] = {}
    for image_id, counts in of.items():
        size = counts.total()

        def beyond(name: str, counts: Counter[str] = counts, size: int = size) -> tuple[float, int, str]:
            return counts[name] / size - whole[name] / len(strata), -whole[name], name

        groups.setdefault(max(counts, key=beyond), []).append(image_id)
    places: list[tuple[float, str, str]] = []
    for members in groups.values():
        hashed = sorted((hashlib.sha256(f"draw/{draw}/{image}".encode()).hexdigest(), image) for image in members)
        places += [((k + 0.5) / len(hashed), key, image) for k, (key, image) in enumerate(hashed)]
    return [image for _, _, image in sorted(places)]


def write_subset(path: str | Path, records: Sequence[Any], pictures: int, draw: int) -> Subset:
    """Write the first pictures of a draw's order as a JSON list of ids, whole or not at all.

    Raises UsageError where there are not as many.
    """
    path = Path(path)
    image_ids, strata = column_of(records, "image_id"), strata_of(records)
    order = picture_order(image_ids, strata, draw)
    if pictures > len(order):
        raise UsageError(f"{pictures} pictures were asked for, the training split has {len(order)}")
    text = json.dumps(order[:pictures], indent=0, ensure_ascii=False).encode("utf-8") + b"\n"
    with atomic_write(path) as stream:
        stream.write(text)
    chosen = read_ids(path)[0]  # what a run will read
    kept = [stratum for image_id, stratum in zip(image_ids, strata, strict=True) if image_id in chosen]
    counts = dict(sorted(Counter(kept).items()))
    return Subset(str(path), hashlib.sha256(text).hexdigest(), draw, len(chosen), len(kept), counts)


def _first_word(record: Any) -> str:
    """The first word of what a record asks; empty where it asks nothing in words."""
    asked = getattr(record, "question", None) or getattr(record, "hypothesis", None) or ""
    if isinstance(asked, str):
        return asked.partition(" ")[0].lower()
    return next((token.lower() for token in asked if isinstance(token, str)), "")
