"""Captions as rows of word ids: 0 is the start, the end and the padding."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from clipvil.errors import DataError
from clipvil.records import Caption, CaptionedImage
from clipvil.text.caption_vocabulary import CaptionVocabulary, caption_words

_KEPT = 1 << 17
"""Captions whose rows are remembered."""


class CaptionRows:
    """Encodes captions with one vocabulary, cut after `max_length` words."""

    def __init__(self, words: CaptionVocabulary, max_length: int) -> None:
        self.words, self.max_length = words, max_length
        self._known: dict[str | tuple[str, ...], list[int]] = {}

    def rows(self, captions: Sequence[Caption]) -> list[list[int]]:
        """The word ids of each caption, without an end."""
        new = {key: caption for caption in captions if (key := caption.tokens or caption.caption) not in self._known}
        if len(self._known) + len(new) > _KEPT:
            self._known.clear()
            new = {caption.tokens or caption.caption: caption for caption in captions}
        for key, words in zip(new, caption_words(list(new.values())), strict=True):
            self._known[key] = self.words.encode(words, self.max_length)
        return [self._known[caption.tokens or caption.caption] for caption in captions]

    def _worded(self, record: CaptionedImage) -> list[list[int]]:
        """The rows of a picture's captions that have words (one of punctuation alone has none)."""
        return [row for row in self.rows(record.told) if row]

    def batch(self, records: Sequence[CaptionedImage], count: int) -> dict[str, Tensor]:
        """captions (B, r, L + 2) int64 from the start symbol to behind the end, and lengths (B, r) int64 in tokens, the

        end counted and the start not. `count` captions of each picture, or all for 0. A picture without captions, and
        one with fewer than the others where all are taken, has rows of length 0, which count nowhere.
        """
        chosen = [_chosen(self._worded(record), count) for record in records]
        rows = max(1, count, *(len(own) for own in chosen))
        longest = max((len(row) for own in chosen for row in own), default=0)
        captions = torch.zeros(len(records), rows, longest + 2, dtype=torch.int64)
        lengths = torch.zeros(len(records), rows, dtype=torch.int64)
        for place, own in enumerate(chosen):
            for number, row in enumerate(own):
                captions[place, number, 1 : len(row) + 1] = torch.tensor(row, dtype=torch.int64)
                lengths[place, number] = len(row) + 1
        return {"captions": captions, "lengths": lengths}

    def references(self, records: Sequence[CaptionedImage]) -> dict[str, Tensor]:
        """All captions of each picture for the reward: references (B, R, max_length) int64, references_of (B,) how many

        of its rows are captions. One that was cut fills its row and so has no end, as in the published training.
        """
        found = [self._worded(record) for record in records]
        rows = torch.zeros(len(records), max(1, *map(len, found)), self.max_length, dtype=torch.int64)
        for place, own in enumerate(found):
            for number, row in enumerate(own):
                rows[place, number, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return {"references": rows, "references_of": torch.tensor([len(own) for own in found])}


def learnt_vocabulary(train: Sequence[CaptionedImage], min_count: int) -> CaptionVocabulary:
    """The words that come at least `min_count` times in the training captions.

    Raises DataError where no picture has a caption, or no word comes so often.
    """
    captions = [caption for record in train for caption in record.told]
    if not captions:
        raise DataError("no training picture has a caption", fix="train on a split with captions")
    words = CaptionVocabulary.build(caption_words(captions), min_count=min_count)
    if not words.words:
        raise DataError(
            f"no word of the {len(captions)} training captions comes {min_count} times",
            fix="lower task_settings.min_word_count",
        )
    return words


def _chosen(rows: list[list[int]], count: int) -> list[list[int]]:
    """`count` captions in a row from a place drawn by lot; of too few, as many draws with replacement."""
    if not rows or not count:
        return rows
    if len(rows) < count:
        return [random.choice(rows) for _ in range(count)]
    first = random.randrange(len(rows) - count + 1)
    return rows[first : first + count]
