"""Which captions the report shows: pictures at fixed places in the order of all, so that nobody picks the good ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clipvil.compare.gallery import Answers, entry_of
from clipvil.compare.results import GalleryGroup

PLACES = (5, 35, 65, 95)
"""Percentiles at which a picture is shown, in each of the two orders."""
PLACES_SAID = "the 5th, 35th, 65th and 95th percentile"


def choose_captions(
    task: str,
    split: str,
    answers: Mapping[str, Answers],
    records: Mapping[str, Any],
    *,
    lead: str,
    floor: str | None,
    thumbnail: Callable[[str], str],
) -> list[GalleryGroup]:
    """Pictures at fixed places in the order of the lead's own score, and of its lead over the best of the others.

    Only pictures that all encoders captioned count; equal ones are ordered by their ids. A picture that was taken
    before makes room for the next one above it. The floor's captions are shown but decide nothing; without a rival
    there is the first group alone.
    """
    rivals = [label for label in answers if label not in (lead, floor)]
    common = sorted(set.intersection(*(set(found) for found in answers.values())) & records.keys())
    scores = {record: answers[lead][record][1] for record in common}
    orders = [(f"In the order of {lead}'s score", scores, "scores {:.1f}")]
    if rivals:
        ahead = {record: scores[record] - max(answers[label][record][1] for label in rivals) for record in common}
        orders.append((f"In the order of {lead}'s lead over the best of the others", ahead, "{:+.1f} ahead"))
    used: set[str] = set()
    groups = []
    for title, values, said in orders:
        chosen = _at_places(sorted(common, key=lambda record: (values[record], record)), used)
        entries = [
            entry_of(
                record,
                records[record],
                answers,
                thumbnail,
                f"{_ordinal(place)} percentile: {said.format(values[record])}",
            )
            for place, record in chosen
        ]
        if entries:
            groups.append(
                GalleryGroup(task=task, split=split, title=title, share=1.0, total=len(common), entries=entries)
            )
    return groups


def _at_places(order: Sequence[str], used: set[str]) -> list[tuple[int, str]]:
    found = []
    for place in PLACES:
        start = round(place / 100 * (len(order) - 1))
        free = next((record for record in [*order[start:], *order[:start][::-1]] if record not in used), None)
        if free is not None:
            used.add(free)
            found.append((place, free))
    return found


def _ordinal(number: int) -> str:
    return f"{number}{'th' if 10 < number % 100 < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
