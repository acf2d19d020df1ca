"""Sentences as arrays of n-gram counts: what BLEU and CIDEr are computed from, for a whole corpus at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Sentences:
    """Sentences of word numbers, one after the other: `words` (T,), `lengths` (S,) in words."""

    words: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Bags:
    """Which n-grams of one order each sentence has, and how often: three arrays (M,) sorted by sentence, then n-gram.

    `starts` (S + 1,) are the bounds of each sentence in them; `kinds` is how many different n-grams there are.
    """

    sentence: Ints
    ngram: Ints
    count: Ints
    starts: Ints
    kinds: int

    def part(self, first: int, last: int) -> Bags:
        """The sentences `first` to `last` (exclusive), numbered from 0."""
        low, high = self.starts[first], self.starts[last]
        rows = slice(low, high)
        starts = self.starts[first : last + 1] - low
        return Bags(self.sentence[rows] - first, self.ngram[rows], self.count[rows], starts, self.kinds)


def number_words(sentences: Iterable[str]) -> Sentences:
    """Split on white space and number the words in order of appearance."""
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__
    split = [sentence.split() for sentence in sentences]
    lengths = np.fromiter(map(len, split), np.int64, len(split))
    words = np.fromiter((index[word] for words in split for word in words), np.int64, int(lengths.sum()))
    return Sentences(words, lengths)


def count_ngrams(sentences: Sentences, orders: Sequence[int] = ORDERS) -> list[Bags]:
    """One `Bags` an order from 1 up. Numbers of n-grams are ranks, so that equal numbers mean equal n-grams."""
    size = len(sentences)
    owner = np.repeat(np.arange(size, dtype=np.int64), sentences.lengths)
    vocabulary = int(sentences.words.max(initial=0)) + 1
    bags: list[Bags] = []
    # An n-gram is its first n - 1 words (already a rank) and one more word.
    heads = sentences.words
    for order in range(1, max(orders) + 1):
        if order > 1:
            tails = sentences.words[order - 1 :]
            inside = owner[: len(tails)] == owner[order - 1 :]
            heads = heads[: len(tails)] * vocabulary + tails
            # What runs over the end of a sentence is no n-gram; it keeps its place, so that positions still agree.
            kinds, ranks = np.unique(np.where(inside, heads, -1), return_inverse=True)
            heads = ranks.reshape(-1)
            bags.append(_bags(owner[: len(tails)][inside], heads[inside], size, len(kinds)))
        else:
            bags.append(_bags(owner, heads, size, vocabulary))
    return bags


def _bags(owner: Ints, ngrams: Ints, size: int, kinds: int) -> Bags:
    pairs, counts = np.unique(owner * max(kinds, 1) + ngrams, return_counts=True)
    sentence, ngram = np.divmod(pairs, max(kinds, 1))
    starts = np.searchsorted(sentence, np.arange(size + 1))
    return Bags(sentence, ngram, counts.astype(np.int64), starts.astype(np.int64), kinds)


@dataclass(frozen=True)
class Pairs:
    """Which reference sentence is compared with which hypothesis: two index arrays (P,), grouped by hypothesis.

    `sizes` (H,) says how many references each hypothesis has.
    """

    hypothesis: Ints
    reference: Ints
    sizes: Ints


def one_to_one_pairs(sizes: Sequence[int] | Ints) -> Pairs:
    """References that stand in the order of their hypotheses, `sizes` of them each."""
    counts = np.asarray(sizes, dtype=np.int64)
    owner = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return Pairs(owner, np.arange(len(owner), dtype=np.int64), counts)


@dataclass(frozen=True)
class Shared:
    """The n-grams that a hypothesis shares with a reference of its own, one row each.

    `pair` is the row of `Pairs`; `in_hypothesis` and `in_reference` are rows of the two `Bags`.
    """

    pair: Ints
    in_hypothesis: Ints
    in_reference: Ints


def shared_ngrams(hypotheses: Bags, references: Bags, pairs: Pairs) -> Shared:
    """Join hypotheses and references on (pair, n-gram)."""
    low = references.starts[pairs.reference]
    many = references.starts[pairs.reference + 1] - low
    pair = np.repeat(np.arange(len(many), dtype=np.int64), many)
    first = np.cumsum(many) - many
    rows = np.arange(len(pair), dtype=np.int64) - first[pair] + low[pair]
    kinds = max(hypotheses.kinds, 1)
    wanted = pairs.hypothesis[pair] * kinds + references.ngram[rows]
    known = hypotheses.sentence * kinds + hypotheses.ngram
    place = np.searchsorted(known, wanted)
    hit = place < len(known)
    hit[hit] = known[place[hit]] == wanted[hit]
    return Shared(pair[hit], place[hit], rows[hit])
