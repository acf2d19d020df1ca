"""CIDEr and CIDEr-D (Vedantam, Zitnick and Parikh 2015) as the COCO caption evaluation computes them.

What the evaluation prints as "CIDEr" is CIDEr-D: tf-idf vectors of 1- to 4-grams, clipped to the reference's, damped by
a Gaussian of the length difference (sigma 6, lengths counted in bigrams), times 10. Plain CIDEr leaves out the clipping
and the damping. Document frequencies count pictures; with a single picture all are 1 and every score is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipvil.metrics.captions.ngrams import Bags, Floats, Ints, Pairs, shared_ngrams

SIGMA = 6.0
SCALE = 10.0


def document_frequencies(references: Bags, owner: Ints) -> Ints:
    """In how many pictures each n-gram occurs (kinds,); `owner` (R,) is the picture of each reference."""
    pairs = np.unique(owner[references.sentence] * max(references.kinds, 1) + references.ngram)
    return np.bincount(pairs % max(references.kinds, 1), minlength=references.kinds).astype(np.int64)


def inverse_frequencies(frequencies: Ints, documents: int | float) -> Floats:
    """log(documents) - log(max(1, frequency)), as the official scorer has it."""
    out: Floats = np.log(float(documents)) - np.log(np.maximum(frequencies, 1).astype(np.float64))
    return out


def cider_d(
    hypotheses: Sequence[Bags], references: Sequence[Bags], pairs: Pairs, idf: Sequence[Floats], *, plain: bool = False
) -> Floats:
    """CIDEr-D (H,) of each hypothesis: the mean over orders and over its references, times 10.

    `hypotheses`, `references` and `idf` (kinds,) have one entry an order from 1 up. `plain` gives CIDEr instead.
    """
    size = len(pairs.sizes)
    total = np.zeros(len(pairs.hypothesis))
    for said, given, weight in zip(hypotheses, references, idf, strict=True):
        mine, theirs = said.count * weight[said.ngram], given.count * weight[given.ngram]
        norm = _norms(said, mine, size)[pairs.hypothesis] * _norms(given, theirs)[pairs.reference]
        shared = shared_ngrams(said, given, pairs)
        a, b = mine[shared.in_hypothesis], theirs[shared.in_reference]
        products = a * b if plain else np.minimum(a, b) * b
        # An empty bincount is one of whole numbers, whatever its weights are.
        similarity = np.bincount(shared.pair, weights=products, minlength=len(total)).astype(np.float64)
        total += np.divide(similarity, norm, out=similarity, where=norm != 0)
    if not plain:
        difference = _sizes(hypotheses[1])[pairs.hypothesis] - _sizes(references[1])[pairs.reference]
        total *= np.exp(-(difference**2) / (2 * SIGMA**2))
    sums = np.bincount(pairs.hypothesis, weights=total, minlength=size)
    return sums / pairs.sizes / len(hypotheses) * SCALE


def _norms(bags: Bags, weights: Floats, size: int | None = None) -> Floats:
    size = len(bags.starts) - 1 if size is None else size
    out: Floats = np.sqrt(np.bincount(bags.sentence, weights=weights**2, minlength=size))
    return out


def _sizes(bags: Bags) -> Floats:
    """How many n-grams each sentence has, repeats counted."""
    return np.bincount(bags.sentence, weights=bags.count, minlength=len(bags.starts) - 1).astype(np.float64)
