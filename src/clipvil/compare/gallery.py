"""Which examples the report shows: a fixed rule, so that nobody picks the flattering ones."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipvil.compare.results import GalleryAnswer, GalleryEntry, GalleryGroup, Reference
from clipvil.tasks.base import Prediction

RIGHT = 50.0
"""An answer counts as right here from half of the full score."""
THUMBNAIL = 224
"""Longest side of an embedded picture in pixels."""
# The last for what is one record a picture.
_IDS = ("question_id", "pair_id", "annotation_id", "episode_id", "caption_id", "image_id")
_PROMPTS = ("question", "hypothesis", "instruction")
_REFERENCES = ("answers", "label", "caption", "told")

Answers = Mapping[str, tuple[Prediction, float]]
"""Record id -> prediction and its score, of one encoder."""


@dataclass(frozen=True)
class Kinds:
    """The kinds of outcome of a comparison: titles in the order shown, and the kind of one record's scores."""

    lead: str
    rivals: tuple[str, ...]

    def titles(self) -> list[str]:
        """Titles of the four kinds (two where there is no rival)."""
        if not self.rivals:
            return [f"{self.lead} right", f"{self.lead} wrong"]
        return [
            "Every encoder right",
            f"Only {self.lead} right",
            f"{self.lead} wrong, another right",
            "Every encoder wrong",
        ]

    def of(self, right: Mapping[str, bool]) -> str | None:
        """The title that a record belongs under; None where lead and some but not all rivals are right."""
        titles = self.titles()
        if not self.rivals:
            return titles[0] if right[self.lead] else titles[1]
        others = [right[rival] for rival in self.rivals]
        if right[self.lead]:
            return titles[0] if all(others) else titles[1] if not any(others) else None
        return titles[2] if any(others) else titles[3]


def choose(
    task: str,
    split: str,
    answers: Mapping[str, Answers],
    records: Mapping[str, Any],
    *,
    lead: str,
    floor: str | None,
    per_kind: int,
    thumbnail: Callable[[str], str],
    seed: int = 0,
) -> list[GalleryGroup]:
    """Draw `per_kind` records of every kind of outcome.

    Records that all encoders answered are sorted by id, shuffled with `seed`, and the first of each kind are taken, no
    picture twice. `lead` is the encoder that the kinds are told from; the floor's answers are shown but decide nothing.
    `thumbnail` turns an image id into a base64 JPEG or an empty string.
    """
    rivals = tuple(label for label in answers if label not in (lead, floor))
    kinds = Kinds(lead, rivals)
    common = sorted(set.intersection(*(set(found) for found in answers.values())) & records.keys())
    kind_of = {
        record: kinds.of({label: answers[label][record][1] >= RIGHT for label in (lead, *rivals)}) for record in common
    }
    counts = Counter(kind_of.values())
    drawn: dict[str, list[str]] = {title: [] for title in kinds.titles()}
    used: set[str] = set()
    for place in np.random.default_rng(seed).permutation(len(common)):
        record = common[place]
        kind, image = kind_of[record], records[record].image_id
        if kind is not None and len(drawn[kind]) < per_kind and image not in used:
            drawn[kind].append(record)
            used.add(image)
    return [
        GalleryGroup(
            task=task, split=split, title=title, share=counts[title] / max(len(common), 1), total=len(common),
            entries=[entry_of(record, records[record], answers, thumbnail) for record in chosen],
        )
        for title, chosen in drawn.items()
        if chosen
    ]  # fmt: skip


def record_id(record: Any) -> str:
    """The id of a record of any kind."""
    return str(next(getattr(record, name) for name in _IDS if hasattr(record, name)))


def make_thumbnail(data: bytes, where: str) -> str:
    """A base64 JPEG of at most `THUMBNAIL` pixels a side; empty when the picture cannot be decoded."""
    from clipvil.errors import ImageError
    from clipvil.images.decode import decode

    try:
        image = decode(data, where=where)
    except ImageError:
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=85, optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def entry_of(
    record: str, content: Any, answers: Mapping[str, Answers], thumbnail: Callable[[str], str], place: str = ""
) -> GalleryEntry:
    """One record as the gallery shows it, with everybody's answers."""
    given = [
        GalleryAnswer(encoder=label, answer=p.output, confidence=p.confidence, score=score)
        for label, found in answers.items()
        for p, score in (found[record],)
    ]
    return GalleryEntry(
        record_id=record,
        image_id=content.image_id,
        prompt=next((str(getattr(content, name)) for name in _PROMPTS if hasattr(content, name)), ""),
        references=_references(content),
        answers=given,
        place=place,
        thumbnail=thumbnail(content.image_id),
    )


def _references(record: Any) -> list[Reference]:
    value: str | Sequence[str] = next((getattr(record, name) for name in _REFERENCES if hasattr(record, name)), ())
    given = [value] if isinstance(value, str) else [str(getattr(item, "caption", item)) for item in value]
    return [Reference(answer=answer, count=count) for answer, count in Counter(filter(None, given)).most_common()]
