"""Captions of synthetic pictures whose colour shows in their features (see `features.ColourSource`)."""

from __future__ import annotations

from clipvil.records import Caption
from tests.tasks.features import COLORS


def colour_captions(n: int, *, start: int = 0) -> list[Caption]:
    """Three captions of each of `n` pictures, in the corpus's order."""
    records = []
    for number in range(start, start + n):
        color = COLORS[(number * 7 + number // 3) % 3]
        image_id = f"{number}/{color}"
        for place, text in enumerate((f"A {color} square.", f"a square that is {color}", f"there is a {color} square")):
            records.append(Caption(image_id, text, f"{number}#{place}"))
    return records
