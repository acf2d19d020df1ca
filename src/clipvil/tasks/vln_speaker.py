"""EnvDrop's speaker: say how to walk a path. It serves back-translation, and may be judged by itself."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import CheckpointError, DataError, RecipeError, UsageError
from clipvil.metrics.captions.native import TokenisedCorpus
from clipvil.metrics.statistics import bootstrap_mean
from clipvil.models import envdrop, envdrop_speaker
from clipvil.models.envdrop_speaker import Speaker
from clipvil.models.navigator import Navigator
from clipvil.records import Episode
from clipvil.tasks.base import InitialRun, Prediction, Score, Scores
from clipvil.tasks.navigation_batches import (
    Panoramas,
    encode_paths,
    journeys_of,
    open_panoramas,
)
from clipvil.tasks.navigation_rollout import Place, Teacher
from clipvil.tasks.navigation_settings import SPEAKER, TASK, SpeakerSettings
from clipvil.tasks.navigation_text import Words, encode_words, kept_words, learnt_words, same_kind, words_of
from clipvil.tasks.navigation_translation import along
from clipvil.text.instructions import PAD
from clipvil.training.checkpoint import load_weights

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset
    from clipvil.features.base import FeatureSource

METRIC = "BLEU-4"


@dataclass(frozen=True)
class DescribedPath:
    """One path with everything that was said about it."""

    episodes: tuple[Episode, ...]

    @property
    def episode_id(self) -> str:
        """That of its first instruction."""
        return self.episodes[0].episode_id

    @property
    def image_id(self) -> str:
        """The path."""
        return self.episodes[0].image_id

    @property
    def told(self) -> tuple[str, ...]:
        """The instructions."""
        return tuple(episode.instruction for episode in self.episodes)


class NavigationSpeaker:
    """The task `navigation_speaker`. Datasets give `Episode`s, of which the task makes one record a path.

    A run may start from one of the task `navigation`: it then shares its words and carries its follower along,
    unchanged, so that back-translation can start from this run with both.
    """

    name = SPEAKER
    metric = METRIC
    record_type: type = Episode

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = SpeakerSettings.read(settings)
        self.words: Words | None = None
        self.follower: dict[str, Any] | None = None
        """The `model` section of the follower that is carried along."""
        self._panoramas: Panoramas | None = None
        self._places: dict[int, Place] = {}

    def attach(self, datasets: Mapping[str, Dataset], features: FeatureSource) -> Panoramas:
        """Take graphs and panoramas. Raises DataError, StoreError."""
        self._panoramas, self._places = open_panoramas(datasets, features), {}
        return self._panoramas

    def units(self, records: Sequence[Episode]) -> list[DescribedPath]:
        """One record a path, in order of first appearance."""
        found: dict[tuple[str, tuple[str, ...]], list[Episode]] = {}
        for record in records:
            found.setdefault((record.image_id, record.path), []).append(record)
        return [DescribedPath(tuple(own)) for own in found.values()]

    def prepare(self, train: Sequence[DescribedPath]) -> None:
        """Learn the words of the training instructions, or read them from the named file."""
        self.words = learnt_words(self.settings, [episode for record in train for episode in record.episodes])

    def continue_from(self, initial: InitialRun, train: Sequence[DescribedPath]) -> None:
        """Take the words of the run to start from, and its follower."""
        self.restore(initial.assets)
        same_kind(self.settings, self._words())
        if initial.task == TASK:
            self.follower = dict(initial.recipe["model"])

    def assets(self) -> dict[str, Any]:
        """The words, and the sizes of the follower where one is carried along."""
        return {**self._words().to_assets(), **({"follower": self.follower} if self.follower else {})}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back what `assets` gave. Raises CheckpointError when it is not there."""
        self.words = kept_words(assets)
        self.follower = dict(assets["follower"]) if assets.get("follower") else None

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh speaker; beside it the follower that is carried along, which stays as it is."""
        if model.get("name", "envdrop") != "envdrop":
            raise RecipeError(f"unknown model '{model['name']}' for the task {self.name}; choose envdrop")
        words, visual = self._words(), encoder.grid_channels
        speaker = envdrop_speaker.build(model, words=len(words), visual=visual)
        if self.follower is None:
            return Navigator(None, speaker)
        follower = envdrop.build(self.follower, words=len(words), visual=visual, bert=words.bert)
        return Navigator(follower.requires_grad_(False), speaker)

    def adopt(self, model: nn.Module, initial: InitialRun) -> dict[str, Any]:
        """Carry along the follower of a navigation run."""
        if initial.task != TASK:
            raise CheckpointError(
                f"a run of the task {initial.task}, from which the task {self.name} takes nothing over"
            )
        if initial.assets.get("speaker"):
            raise CheckpointError("the run to start from has a speaker already; start from the follower before it")
        navigator = cast(Navigator, model)
        speaker, navigator.speaker = navigator.speaker, None
        try:
            load_weights(initial.weights, navigator)
        finally:
            navigator.speaker = speaker
        return {"taken": "words and follower"}

    def collate(self, records: Sequence[DescribedPath], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: of each path one instruction by lot, words (B, L) and word_count (B,); path, path_length, heading

        as in the task `navigation`.
        """
        chosen = [random.choice(record.episodes) for record in records]
        words = encode_words(self._words(), self.settings, chosen)
        return {**words, **encode_paths(self._world().world, chosen)}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy of the words after the begin word, padding left out."""
        loss: Tensor = model(lambda navigator: self._loss(navigator, batch))
        return loss

    def _loss(self, navigator: Navigator, batch: Mapping[str, Tensor]) -> Tensor:
        speaker = cast(Speaker, navigator.speaker)
        context, mask = self._context(speaker, batch)
        words = batch["words"]
        logits, _ = speaker.decode(words[:, :-1], context, mask)
        return functional.cross_entropy(logits.float().flatten(0, 1), words[:, 1:].flatten(), ignore_index=PAD)

    @torch.no_grad()
    def predict(
        self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[DescribedPath]
    ) -> list[Prediction]:
        """The greedy sentence; confidence is the geometric mean of the probabilities of its words."""
        speaker, words = cast(Speaker, cast(Navigator, model).speaker), self._words().ids
        context, mask = self._context(speaker, batch)
        said = speaker.say(
            context, mask, begin=words.begin, end=words.end, unknown=words.unknown, longest=self.settings.longest
        )
        begun = torch.cat([torch.full_like(said[:, :1], words.begin), said[:, :-1]], 1)
        logits, _ = speaker.decode(begun, context, mask)
        each = logits.float().log_softmax(2).gather(2, said.unsqueeze(2)).squeeze(2)
        real = (said != PAD).float()
        sure = ((each * real).sum(1) / real.sum(1).clamp(min=1)).double().exp().clamp(0, 1).tolist()
        return [
            Prediction(record.episode_id, record.image_id, " ".join(words.decode(row)), float(share))
            for record, row, share in zip(records, said.tolist(), sure, strict=True)
        ]

    def score(self, predictions: Sequence[Prediction], records: Sequence[DescribedPath]) -> Scores:
        """BLEU-4 times 100 of the corpus against all instructions of a path; a path by itself is what intervals redraw.

        The mean over paths is lower than the corpus value, so the interval is that of the mean, moved to it and cut off
        at 0 and 100.
        Raises DataError on missing or double ids.
        """
        said = {prediction.record_id: prediction.output for prediction in predictions}
        if len(said) != len(predictions) or any(record.episode_id not in said for record in records):
            raise DataError("every path needs one sentence and no more")
        corpus = TokenisedCorpus(
            # Words are kept in lower case; cased pieces are not.
            [said[record.episode_id].lower() for record in records],
            [[" ".join(words_of(episode)) for episode in record.episodes] for record in records],
        ).bleu()
        value = 100.0 * float(corpus.corpus()[3])
        each = 100.0 * corpus.per_image()[:, 3]
        mean, low, high = bootstrap_mean(each, [record.image_id for record in records])
        bounds = (min(max(value + end - mean, 0.0), 100.0) for end in (low, high))
        overall = Score(value, len(records), *bounds)
        ids = [record.episode_id for record in records]
        return Scores(
            METRIC,
            "COCO",
            overall,
            {},
            dict(zip(ids, each.tolist(), strict=True)),
            {record.episode_id: record.image_id for record in records},
        )

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Raises UsageError: no server judges speakers."""
        raise UsageError("no evaluation server takes what a speaker says")

    def _context(self, speaker: Speaker, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        teacher = cast(Teacher, self.settings.teacher)
        seen = along(self._place(speaker), journeys_of(batch), teacher, self.settings.max_steps)
        device = batch["words"].device
        return speaker.encode(seen.views.to(device), seen.actions.to(device)), seen.mask.to(device)

    def _place(self, speaker: Speaker) -> Place:
        size = speaker.config.angle_size
        if size not in self._places:
            self._places[size] = self._world().place(size)
        return self._places[size]

    def _world(self) -> Panoramas:
        if self._panoramas is None:
            raise UsageError("a speaker tells walks through houses, not pictures; use `clipvil evaluate`")
        return self._panoramas

    def _words(self) -> Words:
        if self.words is None:
            raise UsageError(f"the task {self.name} has no vocabulary yet; call prepare or restore first")
        return self.words
