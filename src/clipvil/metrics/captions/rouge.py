"""ROUGE-L as the COCO caption evaluation computes it (Lin 2004, beta 1.2).

The best precision and the best recall over the references are taken separately. Sentences are split on single blanks,
so that two blanks in a row make an empty word; a tokenised caption has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipvil.metrics.captions.ngrams import Floats

BETA = 1.2


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """ROUGE-L (N,) of tokenised captions against their references (at least one each)."""
    scores = np.zeros(len(hypotheses))
    for row, (said, given) in enumerate(zip(hypotheses, references, strict=True)):
        words = said.split(" ")
        # Bit i of a word's mask: the word stands at place i of the hypothesis.
        masks: dict[str, int] = {}
        for place, word in enumerate(words):
            masks[word] = masks.get(word, 0) | 1 << place
        full = (1 << len(words)) - 1
        precision = recall = 0.0
        for reference in given:
            theirs = reference.split(" ")
            common = _common(masks, full, theirs)
            precision = max(precision, common / len(words))
            recall = max(recall, common / len(theirs))
        if precision and recall:
            scores[row] = (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
    return scores


def _common(masks: dict[str, int], full: int, words: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the dynamic programme being one whole number (Hyyro 2004)."""
    row = full
    for word in words:
        mask = masks.get(word)
        if mask:
            hit = row & mask
            row = ((row + hit) | (row - hit)) & full
    return (full & ~row).bit_count()
