"""The reward of self-critical training: CIDEr-D (and BLEU-4, if wanted) of sampled word ids, with cached frequencies.

Captions are rows of word ids in which 0 is the end symbol: what follows the first 0 is ignored, and the 0 itself is a
word of the scored sentence. A reference that was clipped to the longest length holds no 0 and so has no end symbol, as
in the published training; document frequencies come from unclipped captions, each with the end symbol.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from clipvil.errors import DataError
from clipvil.files import atomic_write
from clipvil.metrics.captions.bleu import bleu_counts
from clipvil.metrics.captions.cider import cider_d, inverse_frequencies
from clipvil.metrics.captions.ngrams import ORDERS, Bags, Floats, Ints, Pairs, Sentences, count_ngrams
from clipvil.records import Caption
from clipvil.text.caption_vocabulary import CaptionVocabulary, caption_words

END = 0
KIND = "clipvil-caption-frequencies"
VERSION = 1
# Four ids share 64 bits, and 0 must stay free to mean "no word".
LARGEST_ID = (1 << 16) - 2


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many pictures each n-gram of word ids occurs.

    `keys` and `counts` have one entry an order from 1 to 4: sorted packed n-grams (K,) uint64, 16 bits an id, and how
    many of the `documents` pictures have each (K,) int32.
    """

    documents: int
    keys: tuple[npt.NDArray[np.uint64], ...]
    counts: tuple[npt.NDArray[np.int32], ...]
    vocabulary: str = ""
    """Fingerprint of the vocabulary that the ids belong to; empty when nobody said."""

    @classmethod
    def build(cls, captions: Iterable[Sequence[Sequence[int]]], *, vocabulary: str = "") -> DocumentFrequencies:
        """Count over pictures. `captions` has the captions of one picture an item, each a list of ids without the end.

        Captions are not clipped, and the end symbol is appended to each. Raises DataError for an id out of range or no
        picture at all.
        """
        per_picture = list(captions)
        if not per_picture:
            raise DataError("no pictures to count n-grams of")
        rows = [[*caption, END] for caption in chain.from_iterable(per_picture)]
        sentences = _pack_rows(rows)
        owner = np.repeat(np.arange(len(per_picture)), [len(captions) for captions in per_picture])
        keys, counts = [], []
        for order in ORDERS:
            packed, sentence = _packed(sentences, order)
            kinds, ranks = np.unique(packed, return_inverse=True)
            pairs = np.unique(owner[sentence] * max(len(kinds), 1) + ranks.reshape(-1))
            keys.append(kinds)
            counts.append(np.bincount(pairs % max(len(kinds), 1), minlength=len(kinds)).astype(np.int32))
        return cls(len(per_picture), tuple(keys), tuple(counts), vocabulary)

    def look_up(self, order: int, packed: npt.NDArray[np.uint64]) -> Ints:
        """Document frequencies of packed n-grams; 0 for those never seen."""
        keys, counts = self.keys[order - 1], self.counts[order - 1]
        place = np.searchsorted(keys, packed)
        out = np.zeros(len(packed), dtype=np.int64)
        inside = place < len(keys)
        inside[inside] = keys[place[inside]] == packed[inside]
        out[inside] = counts[place[inside]]
        return out

    def save(self, path: str | Path) -> None:
        """Write as safetensors, whole or not at all."""
        from safetensors.numpy import save

        tensors: dict[str, npt.NDArray[np.generic]] = {}
        for order in ORDERS:
            # As signed numbers, which every reader of safetensors knows.
            tensors[f"keys_{order}"] = self.keys[order - 1].view(np.int64)
            tensors[f"counts_{order}"] = self.counts[order - 1]
        about = {"version": VERSION, "documents": self.documents, "vocabulary": self.vocabulary}
        # One entry, because several stand in no fixed order and the bytes would differ from run to run.
        with atomic_write(path) as stream:
            stream.write(save(tensors, metadata={KIND: json.dumps(about, sort_keys=True)}))

    @classmethod
    def load(cls, path: str | Path) -> DocumentFrequencies:
        """Read what `save` wrote. Raises DataError for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                about = _about((file.metadata() or {}).get(KIND))
                if about is None:
                    raise DataError("not a file of document frequencies", file=path)
                keys = tuple(np.asarray(file.get_tensor(f"keys_{order}")).view(np.uint64) for order in ORDERS)
                counts = tuple(np.asarray(file.get_tensor(f"counts_{order}")).astype(np.int32) for order in ORDERS)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"cannot be read as document frequencies ({error})",
                file=path,
                fix="write it with `clipvil captions document-frequencies`",
            ) from None
        if any(k.shape != c.shape for k, c in zip(keys, counts, strict=True)):
            raise DataError("damaged document frequencies", file=path)
        return cls(about["documents"], keys, counts, about["vocabulary"])


def _about(text: str | None) -> dict[str, Any] | None:
    """What stands beside the tensors; None where it is not what `save` writes."""
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    good = isinstance(value, dict) and value.get("version") == VERSION
    if not good or not isinstance(value.get("documents"), int) or not isinstance(value.get("vocabulary"), str):
        return None
    return cast("dict[str, Any]", value)


def count_frequencies(records: Iterable[Caption], vocabulary: CaptionVocabulary) -> DocumentFrequencies:
    """Document frequencies of the captions' words in this vocabulary, pictures in order of first appearance."""
    records = list(records)
    per_picture: dict[str, list[list[int]]] = {}
    for record, words in zip(records, caption_words(records), strict=True):
        per_picture.setdefault(record.image_id, []).append(vocabulary.encode(words))
    return DocumentFrequencies.build(per_picture.values(), vocabulary=vocabulary.fingerprint())


@dataclass(frozen=True)
class CaptionReward:
    """`cider` times CIDEr-D plus `bleu` times sentence BLEU-4 of sampled captions."""

    frequencies: DocumentFrequencies
    cider: float = 1.0
    bleu: float = 0.0

    def __call__(self, samples: npt.ArrayLike, references: Sequence[npt.ArrayLike], pictures: npt.ArrayLike) -> Floats:
        """Rewards (N,) of `samples` (N, T) word ids.

        `references` has the rows (R, L) of one picture an item, and `pictures` (N,) says which item each sample is
        about. Raises DataError for a picture without references or an id out of range.
        """
        rows = np.asarray(samples)
        said = _sentences(rows)
        pairs, given = _reference_pairs(references, np.asarray(pictures, dtype=np.int64))
        both = Sentences(np.concatenate([said.words, given.words]), np.concatenate([said.lengths, given.lengths]))
        border, end = len(said), len(both)
        bags, idf = self._bags(both)
        mine, theirs = [b.part(0, border) for b in bags], [b.part(border, end) for b in bags]
        reward = np.zeros(border)
        if self.cider:
            reward += self.cider * cider_d(mine, theirs, pairs, idf)
        if self.bleu:
            counts = bleu_counts(mine, theirs, pairs, said.lengths, given.lengths)
            reward += self.bleu * counts.per_image()[:, 3]
        return reward

    def _bags(self, sentences: Sentences) -> tuple[list[Bags], list[Floats]]:
        bags = count_ngrams(sentences)
        idf = []
        for order, bag in zip(ORDERS, bags, strict=True):
            packed, _ = _packed(sentences, order)
            # Both number n-grams by sorting their words, so the ranks agree; only order 1 keeps the ids themselves, and
            # from order 2 on rank 0 may stand for what ran over a sentence's end.
            kinds = np.unique(packed)
            frequencies = np.zeros(bag.kinds, dtype=np.int64)
            used = np.unique(bag.ngram)
            frequencies[used] = self.frequencies.look_up(order, kinds)
            idf.append(inverse_frequencies(frequencies, self.frequencies.documents))
        return bags, idf


def _reference_pairs(references: Sequence[npt.ArrayLike], pictures: Ints) -> tuple[Pairs, Sentences]:
    blocks = [np.atleast_2d(np.asarray(rows)) for rows in references]
    sizes = np.array([0 if block.size == 0 else len(block) for block in blocks], dtype=np.int64)
    if len(pictures) and (pictures.min() < 0 or pictures.max() >= len(blocks)):
        raise DataError(f"a sample about picture {pictures.max()}, but references of {len(blocks)} pictures")
    bare = np.flatnonzero(sizes[pictures] == 0)
    if len(bare):
        raise DataError(f"picture {pictures[bare[0]]} of the batch has no references")
    parts = [_sentences(block) for block in blocks if block.size]
    given = Sentences(np.concatenate([p.words for p in parts]), np.concatenate([p.lengths for p in parts]))
    many = sizes[pictures]
    hypothesis = np.repeat(np.arange(len(pictures), dtype=np.int64), many)
    offsets = np.arange(len(hypothesis), dtype=np.int64) - np.repeat(np.cumsum(many) - many, many)
    first = (np.cumsum(sizes) - sizes)[pictures]
    return Pairs(hypothesis, first[hypothesis] + offsets, many), given


def _sentences(rows: npt.NDArray[np.integer]) -> Sentences:
    """Rows (N, T) up to and including the first 0."""
    if rows.ndim != 2:
        raise DataError(f"captions must be rows of word ids, not an array of shape {rows.shape}")
    _check_ids(rows)
    ended = np.cumsum(rows == END, axis=1)
    kept = (ended == 0) | ((ended == 1) & (rows == END))
    return Sentences(rows[kept].astype(np.int64), kept.sum(1).astype(np.int64))


def _pack_rows(rows: Sequence[Sequence[int]]) -> Sentences:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    words = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    _check_ids(words)
    return Sentences(words, lengths)


def _check_ids(ids: npt.NDArray[np.integer]) -> None:
    if ids.size and (ids.min() < 0 or ids.max() > LARGEST_ID):
        raise DataError(f"word ids must lie in 0 to {LARGEST_ID}, not {ids.min()} to {ids.max()}")


def _packed(sentences: Sentences, order: int) -> tuple[npt.NDArray[np.uint64], Ints]:
    """Every n-gram of one order as one number (M,), and its sentence (M,)."""
    words = (sentences.words + 1).astype(np.uint64)
    owner = np.repeat(np.arange(len(sentences), dtype=np.int64), sentences.lengths)
    size = max(len(words) - order + 1, 0)
    packed = np.zeros(size, dtype=np.uint64)
    for shift in range(order):
        packed = packed << np.uint64(16) | words[shift : shift + size]
    inside = owner[:size] == owner[order - 1 : order - 1 + size]
    return packed[inside], owner[:size][inside]
