"""Pre-training batches: sentences with words hidden, some of them about another picture, and what is asked of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipvil.errors import DataError
from clipvil.records import PretrainingPair
from clipvil.tasks.pretraining_losses import IGNORED, mask_words

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource
    from clipvil.tasks.pretraining_settings import PretrainingSettings
    from clipvil.text.answer_table import AnswerTable
    from clipvil.text.wordpiece import WordPiece


@dataclass(frozen=True)
class PairInCorpus:
    """A pair together with the sentences that one about another picture is drawn from."""

    pair: PretrainingPair
    place: int = field(compare=False)
    corpus: Sequence[PretrainingPair] = field(compare=False, repr=False)

    @property
    def uid(self) -> str:
        """The id of the pair."""
        return self.pair.uid

    @property
    def image_id(self) -> str:
        """The picture of the pair."""
        return self.pair.image_id

    def other_sentence(self, generator: np.random.Generator) -> str:
        """A sentence about another picture, drawn uniformly. Raises DataError when all are about one picture."""
        own = getattr(self.corpus, "mismatch", None)
        if own is not None:
            return str(self.corpus.sentence(own(self.place, generator)))  # type: ignore[attr-defined]
        others = [pair.sentence for pair in self.corpus if pair.image_id != self.image_id]
        if not others:
            raise DataError("all sentences are about one picture, so no sentence of another can be drawn")
        return others[int(generator.integers(len(others)))]


class PairsInCorpus(Sequence[Any]):
    """The pairs of a split, each with the split itself; nothing is made before it is asked for."""

    key = "uid"

    def __init__(self, pairs: Sequence[PretrainingPair]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = int(index) + len(self) if index < 0 else int(index)
        return PairInCorpus(self.pairs[place], place, self.pairs)

    def __iter__(self) -> Iterator[PairInCorpus]:
        return (PairInCorpus(pair, place, self.pairs) for place, pair in enumerate(self.pairs))

    def column(self, name: str) -> list[str]:
        """One field of all pairs, without making them where the split can say it so."""
        own = getattr(self.pairs, "column", None)
        return list(own(name)) if own is not None else [getattr(pair, name) for pair in self.pairs]

    def sentences(self) -> Iterator[str]:
        """The sentences of all pairs, one after the other; of a mapped corpus none stays in memory."""
        own = getattr(self.pairs, "sentence", None)
        return map(own, range(len(self))) if own is not None else (pair.sentence for pair in self.pairs)

    def pictures(self) -> npt.NDArray[Any]:
        """The number of the picture of each pair, (len,) whole numbers: equal numbers are one picture."""
        own = getattr(self.pairs, "pictures", None)
        codes: npt.NDArray[Any] = own() if own is not None else self._numbered[1]
        return codes

    def picture_name(self, number: int) -> str:
        """The image id of a picture's number."""
        own = getattr(self.pairs, "picture_name", None)
        return str(own(number) if own is not None else self._numbered[0][number])

    @cached_property
    def _numbered(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Image ids in order, and the place of each pair's among them."""
        names, codes = np.unique(np.asarray(self.column("image_id")), return_inverse=True)
        return names, codes


def draw_batch(
    records: Sequence[PairInCorpus],
    features: FeatureSource,
    settings: PretrainingSettings,
    words: WordPiece,
    answers: AnswerTable | None,
) -> dict[str, Tensor]:
    """One batch of B sentences about P distinct pictures, in order of first appearance.

    tokens (B, T) int64 with words hidden, token_mask (B, T) bool, T as long as the longest sentence; picture (B,)
    int64, the row of the picture of each; cells (P, N, C), shapes (P, 2) and, where shapes differ, mask (P, N); matched
    (B,) int64, 0 where the sentence is about another picture; and, by objective, hidden (B, T) int64, the word that was
    there, and answer (B,) int64, both -1 where nothing is asked. All draws come from torch's global generator.
    """
    generator = np.random.default_rng(int(torch.randint(2**62, ())))
    rows: dict[str, int] = {}
    picture = [rows.setdefault(record.image_id, len(rows)) for record in records]
    texts, matched, chosen = [], [], []
    for record in records:
        fits = "itm" not in settings.objectives or float(generator.random()) >= settings.mismatch_share
        texts.append(record.pair.sentence if fits else record.other_sentence(generator))
        matched.append(int(fits))
        # Drawn for mismatched pairs too: what one record draws does not depend on the objectives of another.
        answer = answers.draw(record.pair.labels, generator) if answers is not None else None
        chosen.append(answer if fits and answer is not None else IGNORED)
    tokens, token_mask = words.encode_batch(texts, settings.max_tokens)
    longest = int(token_mask.sum(dim=1).max())
    tokens, token_mask = tokens[:, :longest], token_mask[:, :longest]
    batch = {"matched": torch.tensor(matched), "picture": torch.tensor(picture)}
    if "mlm" in settings.objectives:
        special = (words.pad, words.cls, words.sep)
        tokens, batch["hidden"] = mask_words(
            tokens, special=special, mask=words.mask, words=len(words), share=settings.mask_share
        )
    if answers is not None:
        batch["answer"] = torch.tensor(chosen)
    grids = features.batch(list(rows))
    batch |= {"tokens": tokens, "token_mask": token_mask, "cells": grids.cells, "shapes": grids.shapes}
    if grids.mask is not None:
        batch["mask"] = grids.mask
    return batch
