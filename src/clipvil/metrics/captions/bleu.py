"""BLEU-1 to BLEU-4 as the COCO caption evaluation computes them (Papineni et al. 2002; closest reference length).

A corpus value comes from sums over all pictures, so it is not the mean of the values a picture. Two tiny constants keep
a picture without any match above zero; they are part of every published number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipvil.metrics.captions.ngrams import ORDERS, Bags, Floats, Ints, Pairs, shared_ngrams

SMALL, TINY = 1e-9, 1e-15


@dataclass(frozen=True)
class BleuCounts:
    """What BLEU needs to know of each hypothesis, and all it needs: (H, 4) clipped matches, lengths in words (H,)."""

    matches: Floats
    length: Floats
    reference_length: Floats

    def per_image(self) -> Floats:
        """BLEU-1 to BLEU-4 of every hypothesis by itself (H, 4)."""
        return bleu_from_counts(self.matches, self.length, self.reference_length)

    def corpus(self) -> Floats:
        """BLEU-1 to BLEU-4 of all hypotheses together (4,)."""
        return bleu_from_counts(self.matches.sum(0), self.length.sum(), self.reference_length.sum(), self.guesses())

    def guesses(self) -> Floats:
        """How many n-grams of each order all hypotheses have together (4,)."""
        return np.maximum(self.length[:, None] - np.arange(4), 0).sum(0)


def bleu_counts(
    hypotheses: Sequence[Bags], references: Sequence[Bags], pairs: Pairs, lengths: Ints, reference_lengths: Ints
) -> BleuCounts:
    """Clipped matches and lengths. `lengths` (H,) and `reference_lengths` (R,) are in words; every hypothesis has a

    reference. Of equally close reference lengths the shorter counts.
    """
    matches = np.zeros((len(lengths), len(ORDERS)))
    for column, (said, given) in enumerate(zip(hypotheses, references, strict=True)):
        shared = shared_ngrams(said, given, pairs)
        most = np.zeros(len(said.count), dtype=np.int64)
        np.maximum.at(most, shared.in_hypothesis, given.count[shared.in_reference])
        clipped = np.minimum(most, said.count)
        matches[:, column] = np.bincount(said.sentence, weights=clipped, minlength=len(lengths))
    theirs = reference_lengths[pairs.reference]
    # One number that sorts by distance first and by length second.
    rank = np.abs(theirs - lengths[pairs.hypothesis]) * (int(reference_lengths.max(initial=0)) + 1) + theirs
    starts = np.cumsum(pairs.sizes) - pairs.sizes
    closest = np.minimum.reduceat(rank, starts) % (int(reference_lengths.max(initial=0)) + 1)
    return BleuCounts(matches, lengths.astype(np.float64), closest.astype(np.float64))


def bleu_from_counts(
    matches: Floats, length: Floats, reference_length: Floats, guesses: Floats | None = None
) -> Floats:
    """BLEU-1 to BLEU-4 (..., 4) from matches (..., 4) and lengths (...); `guesses` where they are sums already."""
    length, reference_length = np.asarray(length), np.asarray(reference_length)
    if guesses is None:
        guesses = np.maximum(length[..., None] - np.arange(4), 0)
    precision = np.cumprod((matches + TINY) / (guesses + SMALL), axis=-1) ** (1 / np.arange(1, 5))
    ratio = (length + TINY) / (reference_length + SMALL)
    with np.errstate(over="ignore"):
        penalty = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    return precision * penalty[..., None]
