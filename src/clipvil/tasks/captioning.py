"""Captioning: one sentence about a picture, trained by cross-entropy and then by its own CIDEr-D (COCO's protocol)."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.metrics.captions.reward import CaptionReward
from clipvil.models.decoding import Decoded, Decoding, decode
from clipvil.records import Caption, CaptionedImage
from clipvil.tasks.base import InitialRun, Prediction, Scores
from clipvil.tasks.caption_batches import CaptionRows, learnt_vocabulary
from clipvil.tasks.caption_losses import cross_entropy, token_mask
from clipvil.tasks.caption_scores import METRIC, CaptionJudge, by_picture, write_results
from clipvil.tasks.caption_settings import TASK, CaptioningSettings
from clipvil.tasks.self_critical import pictures_of, reward_of, self_critical_loss
from clipvil.text.caption_vocabulary import PUBLISHED_MIN_COUNT, CaptionVocabulary

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource

# Model name -> module with build(settings, words=, channels=).
MODELS = {"transformer_captioner": "clipvil.models.transformer_captioner"}


class Captioning:
    """The task `captioning`. Datasets give `Caption`s, of which the task makes one `CaptionedImage` a picture.

    So `training.batch_size` counts pictures, and each is encoded once however many captions of it are in the batch.
    """

    name = TASK
    metric = METRIC
    record_type: type = Caption

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings, self._given = CaptioningSettings.read(settings), frozenset(settings)
        self.decoding: Decoding = self.settings.decoding()
        self.everything = True
        self._judge = CaptionJudge()
        self._rows: CaptionRows | None = None
        self._reward: CaptionReward | None = None
        self._epoch = 0.0

    def units(self, records: Sequence[Caption]) -> list[CaptionedImage]:
        """One record a picture, in order of first appearance."""
        return by_picture(records)

    def light(self) -> Captioning:
        """The same task with greedy captions and CIDEr-D alone, for judging while it trains."""
        other = copy.copy(self)
        other.decoding, other.everything = self._known(self.settings.greedy()), False
        return other

    @property
    def runs_vary(self) -> bool:
        """Whether its loss writes captions, as long as they come: see `clipvil.training.sharding`."""
        return self.settings.objective == "self_critical"

    def prepare(self, train: Sequence[CaptionedImage]) -> None:
        """Learn the words from the training captions, or read them from the named file. Raises DataError."""
        chosen = self.settings
        self._take(
            CaptionVocabulary.load(chosen.vocabulary)
            if chosen.vocabulary
            else learnt_vocabulary(train, chosen.min_word_count)
        )

    def continue_from(self, initial: InitialRun, train: Sequence[CaptionedImage]) -> None:
        """Take the words of the run that this one starts from: its weights mean them.

        Warns of a `min_word_count` that has no effect. Raises RecipeError where `vocabulary` names a file of other
        words, DataError where that cannot be read.
        """
        if initial.task != self.name:
            self.prepare(train)
            return
        self.restore(initial.assets)
        mine, theirs = self.settings, initial.recipe.get("task_settings", {})
        if mine.vocabulary:
            asked, kept = CaptionVocabulary.load(mine.vocabulary).fingerprint(), self._words().words.fingerprint()
            if asked != kept:
                raise RecipeError(
                    f"'task_settings.vocabulary' {mine.vocabulary}: has other words (fingerprint {asked}) than "
                    f"the run to start from ({kept}), whose words are kept; leave it out, or train that run with it"
                )
        elif "min_word_count" in self._given and not theirs.get("vocabulary"):
            before = theirs.get("min_word_count", PUBLISHED_MIN_COUNT)
            if mine.min_word_count != before:
                warnings.warn(
                    f"'task_settings.min_word_count' {mine.min_word_count} has no effect: the words are those of the "
                    f"run to start from, which had {before}",
                    stacklevel=2,
                )

    def prepare_training(self, train: Sequence[CaptionedImage]) -> None:
        """What training needs beside the words: in self-critical training, how often n-grams come in the captions.

        Warns of pictures without captions, from which nothing is learnt. Raises DataError where none has one.
        """
        silent = sum(not record.told for record in train)
        if silent == len(train):
            raise DataError("no training picture has a caption", fix="train on a split with captions")
        if silent:
            warnings.warn(
                f"{silent} of {len(train)} training pictures have no caption: nothing is learnt from them", stacklevel=2
            )
        if self.settings.objective == "self_critical":
            self._reward = reward_of(self.settings, self._words().words, train)

    def assets(self) -> dict[str, Any]:
        """The vocabulary."""
        return {"words": self._words().words.to_json()}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back the vocabulary. Raises DataError when it is not there."""
        self._take(CaptionVocabulary.from_json(assets.get("words")))

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh model: `model["name"]` picks it, the rest are its sizes. Starts from torch's global seed."""
        name = model.get("name", next(iter(MODELS)))
        if name not in MODELS:
            raise RecipeError(f"unknown model '{name}' for the task {self.name}; choose one of {', '.join(MODELS)}")
        module: nn.Module = importlib.import_module(MODELS[name]).build(
            model, words=len(self._words().words), channels=encoder.grid_channels
        )
        if encoder.cells == "regions" and getattr(getattr(module, "config", None), "cell_positions", False):
            raise RecipeError(
                f"'model.cell_positions' needs to know where cells lie, and the regions of {encoder.name} came without "
                "boxes; set it to false"
            )
        return module

    def collate(self, records: Sequence[CaptionedImage], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: cells (B, N, C), shapes (B, 2), mask (B, N) bool where grids differ in shape, boxes (B, N, 4) of

        regions, and captions (B, r, L) with lengths (B, r) as of `CaptionRows.batch`; in self-critical training
        references in their place, as of `CaptionRows.references`.
        """
        grids = features.batch([record.image_id for record in records])
        batch = {"cells": grids.cells, "shapes": grids.shapes}
        if grids.mask is not None:
            batch["mask"] = grids.mask
        if grids.boxes is not None:
            batch["boxes"] = grids.boxes
        if self.settings.objective == "self_critical":
            batch |= self._words().references(records)
        else:
            batch |= self._words().batch(records, self.settings.captions_per_image)
        return batch

    def at_epoch(self, epoch: float) -> None:
        """Hear how far training has come: what scheduled sampling goes by."""
        self._epoch = epoch

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean negative log-likelihood a token, or the self-critical loss, as the recipe says."""
        if self.settings.objective == "self_critical":
            if self._reward is None:
                raise UsageError("self-critical training has no document frequencies; call prepare_training first")
            return self_critical_loss(model, batch, self.settings, self._reward)
        captions, lengths = batch["captions"].flatten(0, 1), batch["lengths"].flatten()
        inputs, targets = captions[:, :-1], captions[:, 1:]
        mask = torch.arange(targets.shape[1], device=targets.device) < lengths.unsqueeze(1)
        share = self.settings.replaced(self._epoch)
        if share:
            inputs = _with_own_words(model, batch, inputs, share)
        return cross_entropy(_forward(model, batch, inputs), targets, mask, self.settings.label_smoothing)

    @torch.no_grad()
    def predict(self, model: Any, batch: Mapping[str, Tensor], records: Sequence[CaptionedImage]) -> list[Prediction]:
        """One caption a picture; `top` holds all beams, best first.

        Confidence is the geometric mean of the probabilities of the caption's tokens, its end included.
        """
        memory = model.encode(**pictures_of(batch))
        decoded = decode(model, memory, self.decoding)
        return [
            Prediction(record.image_id, record.image_id, top[0][0], top[0][1], top)
            for record, top in zip(records, self._captions(decoded), strict=True)
        ]

    def score(self, predictions: Sequence[Prediction], records: Sequence[CaptionedImage]) -> Scores:
        """CIDEr-D times 100 with its interval, beside it BLEU and ROUGE-L, apart by domain where there are any.

        Raises DataError on missing, unknown or double picture ids.
        """
        return self._judge.score(predictions, records, everything=self.everything)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Write the result file of the COCO server. Raises DataError for an id that is not a whole number."""
        write_results(predictions, path)

    def _captions(self, decoded: Decoded) -> list[tuple[tuple[str, float], ...]]:
        pictures, beams, length = decoded.rows.shape
        mask = token_mask(decoded.rows.view(-1, length)).view(pictures, beams, length)
        means = decoded.log_probs.masked_fill(~mask, 0.0).sum(2) / mask.sum(2)
        confidence, rows = means.double().exp().clamp(0, 1).tolist(), decoded.rows.tolist()
        words = self._words().words
        return [
            tuple((words.decode(row), share) for row, share in zip(own, shares, strict=True))
            for own, shares in zip(rows, confidence, strict=True)
        ]

    def _take(self, words: CaptionVocabulary) -> None:
        self._rows, self._reward = CaptionRows(words, self.settings.max_length), None
        self.decoding = self._known(self.settings.decoding())

    def _known(self, decoding: Decoding) -> Decoding:
        """Nothing to suppress where no word is unknown: the last row is then a word like any other."""
        if self._words().words.unknown is None:
            return replace(decoding, suppress_unknown=False)
        return decoding

    def _words(self) -> CaptionRows:
        if self._rows is None:
            raise UsageError(f"the task {self.name} has no vocabulary yet; call prepare or restore first")
        return self._rows


def _forward(model: nn.Module, batch: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    log_probs: Tensor = model(captions=inputs, **pictures_of(batch))
    return log_probs


@torch.no_grad()
def _with_own_words(model: nn.Module, batch: Mapping[str, Tensor], inputs: Tensor, share: float) -> Tensor:
    """Inputs in which a share of the words is drawn from what the model says at that place.

    All places at once, from one pass over the true words: the published code does it word by word, for recurrent models
    alone, and leaves it off for this one.
    """
    said = torch.distributions.Categorical(logits=_forward(model, batch, inputs)).sample()[:, :-1]
    replaced = (torch.rand(said.shape, device=said.device) < share) & (inputs[:, 1:] > 0)
    return torch.cat([inputs[:, :1], torch.where(replaced & (said > 0), said, inputs[:, 1:])], dim=1)
