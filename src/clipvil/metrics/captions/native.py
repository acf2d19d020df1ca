"""BLEU, ROUGE-L, CIDEr and CIDEr-D of tokenised captions in one pass, with what intervals need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from clipvil.errors import DataError
from clipvil.metrics.captions.bleu import BleuCounts, bleu_counts
from clipvil.metrics.captions.cider import cider_d, document_frequencies, inverse_frequencies
from clipvil.metrics.captions.ngrams import (
    Bags,
    Floats,
    Pairs,
    Sentences,
    count_ngrams,
    number_words,
    one_to_one_pairs,
)
from clipvil.metrics.captions.rouge import rouge_l


@dataclass(frozen=True)
class TokenisedCorpus:
    """Tokenised captions (words separated by one blank) and the references of each; metrics are computed when asked.

    Raises DataError when nothing is there or a caption has no reference.
    """

    hypotheses: Sequence[str]
    references: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        if len(self.hypotheses) != len(self.references):
            raise DataError(f"{len(self.hypotheses)} captions but references for {len(self.references)}")
        if not self.hypotheses:
            raise DataError("no captions to score")
        bare = next((row for row, given in enumerate(self.references) if not given), None)
        if bare is not None:
            raise DataError(f"caption {bare} has no reference")

    @cached_property
    def _pairs(self) -> Pairs:
        return one_to_one_pairs([len(given) for given in self.references])

    @cached_property
    def _sentences(self) -> Sentences:
        # One numbering of words for both sides, hypotheses first.
        return number_words(chain(self.hypotheses, chain.from_iterable(self.references)))

    @cached_property
    def _bags(self) -> tuple[list[Bags], list[Bags]]:
        bags, border, end = count_ngrams(self._sentences), len(self.hypotheses), len(self._sentences)
        return [b.part(0, border) for b in bags], [b.part(border, end) for b in bags]

    @cached_property
    def _idf(self) -> list[Floats]:
        owner = self._pairs.hypothesis
        return [
            inverse_frequencies(document_frequencies(given, owner), len(self.hypotheses)) for given in self._bags[1]
        ]

    def bleu(self) -> BleuCounts:
        """The counts that BLEU-1 to BLEU-4 are made from, for the corpus and a picture."""
        border = len(self.hypotheses)
        lengths = self._sentences.lengths
        return bleu_counts(*self._bags, self._pairs, lengths[:border], lengths[border:])

    def rouge_l(self) -> Floats:
        """ROUGE-L (N,); the corpus value is the mean."""
        return rouge_l(self.hypotheses, self.references)

    def cider_d(self) -> Floats:
        """CIDEr-D (N,), document frequencies from these references; the corpus value is the mean."""
        return cider_d(*self._bags, self._pairs, self._idf)

    def cider(self) -> Floats:
        """Plain CIDEr (N,): no clipping, no length penalty."""
        return cider_d(*self._bags, self._pairs, self._idf, plain=True)
