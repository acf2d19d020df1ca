"""Captions as tasks judge them: one prediction a picture, CIDEr-D first. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

from clipvil.records import Caption, CaptionedImage


def by_picture(captions: Sequence[Caption]) -> list[CaptionedImage]:
    """One record a picture with all its captions, in order of first appearance."""
    found: dict[str, list[Caption]] = {}
    for caption in captions:
        found.setdefault(caption.image_id, []).append(caption)
    return [CaptionedImage(image_id, tuple(own)) for image_id, own in found.items()]
