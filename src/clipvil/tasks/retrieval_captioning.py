"""The baseline that writes nothing: a picture gets a caption of the training picture that looks most like it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.features.base import pooled_of
from clipvil.metrics.captions.cider import cider_d, document_frequencies, inverse_frequencies
from clipvil.metrics.captions.ngrams import Bags, Floats, Pairs, count_ngrams, number_words
from clipvil.records import Caption, CaptionedImage
from clipvil.tasks.base import Prediction, Scores
from clipvil.tasks.caption_scores import METRIC, CaptionJudge, by_picture, write_results
from clipvil.tasks.settings import read_settings
from clipvil.text.caption_vocabulary import caption_words

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource

TOP = 5
BLIND = "question-only"
_AT_ONCE = 1024
"""Training pictures whose vectors are read, and compared, at once."""


@dataclass(frozen=True)
class RetrievalSettings:
    """A recipe's `task_settings`: there is nothing to choose."""


class RetrievalCaptioning:
    """The task `retrieval_captioning`. Nothing is trained.

    Pictures are compared by the cosine of their pooled vectors, or of the means of their grids where the features have
    no pooled ones; of equally near ones the first in the corpus counts. Of the nearest picture's captions the one is
    said that agrees most with its others, see `most_typical`.
    """

    name = "retrieval_captioning"
    metric = METRIC
    record_type: type = Caption
    trains = False

    def __init__(self, settings: Mapping[str, Any]) -> None:
        read_settings(RetrievalSettings, settings, self.name)
        self._judge = CaptionJudge()
        self._pictures: list[str] = []
        self._captions: list[str] = []
        self._vectors: tuple[FeatureSource, _Vectors] | None = None

    def units(self, records: Sequence[Caption]) -> list[CaptionedImage]:
        """One record a picture, in order of first appearance."""
        return by_picture(records)

    def prepare(self, train: Sequence[CaptionedImage]) -> None:
        """Choose what every training picture would say. Raises DataError where none has a caption."""
        told = [record for record in train if record.told]
        if not told:
            raise DataError("no training picture has a caption", fix="train on a split with captions")
        self._pictures = [record.image_id for record in told]
        self._captions = most_typical([record.told for record in told])
        self._vectors = None

    def assets(self) -> dict[str, Any]:
        """The training pictures and what each would say."""
        self._check()
        return {"pictures": self._pictures, "captions": self._captions}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back what `assets` returned. Raises DataError for anything else."""
        pictures, captions = assets.get("pictures"), assets.get("captions")
        if not isinstance(pictures, list) or not isinstance(captions, list) or len(pictures) != len(captions):
            raise DataError("the assets of a retrieval run must hold as many pictures as captions")
        self._pictures, self._captions, self._vectors = list(map(str, pictures)), list(map(str, captions)), None

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A model without weights. `model` must be empty: there is nothing to choose."""
        if model:
            raise RecipeError(f"the task {self.name} has no model to choose; leave 'model.{next(iter(model))}' out")
        if encoder.name == BLIND:
            raise UsageError(f"{BLIND} sees no picture, and the task {self.name} compares pictures")
        return _Nothing()

    def refuses(self, encoder: str) -> str:
        """Why an encoder of that name cannot do it: one that sees no picture."""
        return "it sees no picture to compare with" if encoder == BLIND else ""

    def collate(self, records: Sequence[CaptionedImage], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: nearest (B, k) int64 training pictures, best first, and their cosine (B, k) float32.

        Raises UsageError where the features hold none of the training pictures.
        """
        self._check()
        if self._vectors is None or self._vectors[0] is not features:
            self._vectors = features, _Vectors(features, self._pictures)
        nearest, cosine = self._vectors[1].nearest(vectors_of(features, [record.image_id for record in records]), TOP)
        return {"nearest": nearest, "cosine": cosine}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """There is none: raises UsageError."""
        raise UsageError(f"the task {self.name} trains nothing and so has no loss")

    def predict(
        self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[CaptionedImage]
    ) -> list[Prediction]:
        """The caption of the nearest training picture; `top` has those of the five nearest.

        Confidence is the cosine, 0 where it is negative.
        """
        found = []
        for record, places, values in zip(
            records, batch["nearest"].tolist(), batch["cosine"].clamp(0, 1).tolist(), strict=True
        ):
            top = tuple((self._captions[place], value) for place, value in zip(places, values, strict=True))
            found.append(Prediction(record.image_id, record.image_id, top[0][0], top[0][1], top))
        return found

    def score(self, predictions: Sequence[Prediction], records: Sequence[CaptionedImage]) -> Scores:
        """As of the task captioning. Raises DataError as there."""
        return self._judge.score(predictions, records)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Write the result file of the COCO server. Raises DataError for an id that is not a whole number."""
        write_results(predictions, path)

    def _check(self) -> None:
        if not self._captions:
            raise UsageError(f"the task {self.name} has no captions yet; call prepare or restore first")


class _Nothing(nn.Module):
    """Has no weights, but a device like any other model."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.empty(0), requires_grad=False)


class _Vectors:
    """Unit vectors of the training pictures, on disk in a file without a name, and read piece by piece.

    So memory stays what it is whatever the size of the corpus, and grids are read once for their means.
    """

    def __init__(self, features: FeatureSource, pictures: Sequence[str]) -> None:
        absent = next((image_id for image_id in pictures if image_id not in features), None)
        if absent is not None:
            raise UsageError(
                f"the features at hand lack training pictures of the run (the first is '{absent}'), among which the "
                "nearest one is looked for; take a store that holds both"
            )
        size = vectors_of(features, pictures[:1]).shape[1]
        with tempfile.TemporaryFile(prefix="clipvil-vectors-") as file:
            self._kept = np.memmap(file, np.float32, "w+", shape=(len(pictures), size))
        for start in range(0, len(pictures), _AT_ONCE):
            part = vectors_of(features, pictures[start : start + _AT_ONCE])
            self._kept[start : start + len(part)] = part.numpy()

    def nearest(self, vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Places and cosines (B, k) of the `count` nearest to unit vectors (B, D), best first, equal ones in order."""
        best = torch.empty(len(vectors), 0)
        places = torch.empty(len(vectors), 0, dtype=torch.int64)
        for start in range(0, len(self._kept), _AT_ONCE):
            part = torch.from_numpy(np.array(self._kept[start : start + _AT_ONCE]))
            cosines = torch.cat([best, vectors @ part.T], dim=1)
            numbers = torch.arange(start, start + len(part)).expand(len(vectors), -1)
            order = cosines.argsort(dim=1, descending=True, stable=True)[:, :count]
            best, places = cosines.gather(1, order), torch.cat([places, numbers], dim=1).gather(1, order)
        return places, best


def vectors_of(features: FeatureSource, image_ids: Sequence[str]) -> Tensor:
    """One unit vector (B, D) float32 a picture: its pooled one, or the mean of its cells where there is none."""
    pooled = None if features.spec.pooled_channels is None else pooled_of(features, image_ids)
    if pooled is None:
        grids = features.batch(image_ids)
        if grids.mask is None:
            pooled = grids.cells.mean(1)
        else:
            real = grids.mask.unsqueeze(2).to(grids.cells.dtype)
            pooled = (grids.cells * real).sum(1) / real.sum(1).clamp(min=1)
    return functional.normalize(pooled.float(), dim=1)


def most_typical(captions: Sequence[Sequence[Caption]]) -> list[str]:
    """Of each picture's captions the one with the highest mean CIDEr-D against its others, of equal ones the first.

    Document frequencies are those of all captions given. A picture's only caption is its most typical one.
    """
    words = caption_words([caption for own in captions for caption in own])
    sizes = np.array([len(own) for own in captions], dtype=np.int64)
    bags = count_ngrams(number_words(" ".join(tokens) for tokens in words))
    owner = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    idf = [inverse_frequencies(document_frequencies(bag, owner), len(sizes)) for bag in bags]
    ends = np.cumsum(sizes)
    out: list[str] = []
    for start in range(0, len(sizes), _AT_ONCE):
        mine = sizes[start : start + _AT_ONCE]
        first = int(ends[start] - sizes[start])
        values = _agreement([bag.part(first, first + int(mine.sum())) for bag in bags], mine, idf)
        for own, part in zip(captions[start:], np.split(values, np.cumsum(mine)[:-1]), strict=False):
            out.append(own[int(part.argmax())].caption)
    return out


def _agreement(bags: list[Bags], sizes: np.ndarray[Any, np.dtype[np.int64]], idf: Sequence[Floats]) -> Floats:
    """The mean CIDEr-D of each caption against the others of its picture; 0 where there are no others."""
    firsts = np.cumsum(sizes) - sizes
    pairs = [
        (first + one, first + other)
        for first, size in zip(firsts.tolist(), sizes.tolist(), strict=True)
        for one in range(size)
        for other in range(size)
        if one != other
    ]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    others = np.repeat(sizes - 1, sizes)
    with np.errstate(invalid="ignore"):
        values = cider_d(bags, bags, Pairs(both[:, 0], both[:, 1], others), idf)
    found: Floats = np.where(others > 0, values, 0.0)
    return found
