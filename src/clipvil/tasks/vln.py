"""Vision-and-language navigation: follow an instruction through a house (R2R, RxR), by EnvDrop's follower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import CheckpointError, RecipeError, UsageError
from clipvil.models import envdrop, envdrop_speaker
from clipvil.models.envdrop import EnvDrop
from clipvil.models.envdrop_bert import BertInstructionEncoder
from clipvil.models.navigator import Navigator
from clipvil.records import Episode
from clipvil.tasks.base import InitialRun, Prediction, Scores
from clipvil.tasks.navigation_batches import (
    Panoramas,
    encode_paths,
    journeys_of,
    open_panoramas,
)
from clipvil.tasks.navigation_losses import Normalise, actor_critic_loss, imitation_loss
from clipvil.tasks.navigation_results import METRIC, score_walks
from clipvil.tasks.navigation_rollout import (
    Choose,
    Journeys,
    Place,
    Rollout,
    Teacher,
    follow_best,
    follow_chance,
    follow_teacher,
    rollout,
)
from clipvil.tasks.navigation_settings import SPEAKER, TASK, NavigationSettings
from clipvil.tasks.navigation_text import Words, check_length, encode_words, kept_words, learnt_words, same_kind
from clipvil.tasks.navigation_translation import Augmentation, translated
from clipvil.training.checkpoint import load_weights

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset
    from clipvil.features.base import FeatureSource

MODELS = ("envdrop",)


class Navigation:
    """The task `navigation`. Records are `Episode`s; batches hold words and places, rollouts happen in the loss."""

    name = TASK
    metric = METRIC
    record_type: type = Episode

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = NavigationSettings.read(settings)
        self.words: Words | None = None
        self.speaker: dict[str, Any] | None = None
        """The `model` section of the speaker that the model carries, for back-translation."""
        self._panoramas: Panoramas | None = None
        self._augmentation: Augmentation | None = None
        self._places: dict[int, Place] = {}

    def attach(self, datasets: Mapping[str, Dataset], features: FeatureSource) -> Panoramas:
        """Take graphs and panoramas. Raises DataError, StoreError."""
        self._panoramas, self._places = open_panoramas(datasets, features), {}
        return self._panoramas

    def prepare(self, train: Sequence[Episode]) -> None:
        """Learn the words of the training instructions, or read them from the named file."""
        if self.settings.back_translation:
            raise RecipeError(
                "back-translation needs a speaker: let the run start from one (init.recipe=mini/navigation-speaker, or "
                "init.run)"
            )
        self.words = learnt_words(self.settings, train)

    def continue_from(self, initial: InitialRun, train: Sequence[Episode]) -> None:
        """Take the words of a run of this task, or of a speaker with what it carries."""
        self.restore(initial.assets)
        same_kind(self.settings, self._words())
        if initial.task == SPEAKER:
            self.speaker = dict(initial.recipe["model"])
        if self.settings.back_translation and self.speaker is None:
            raise RecipeError("back-translation needs a speaker, and the run to start from has none")

    def prepare_training(self, train: Sequence[Episode]) -> None:
        """Find the paths that back-translation tells. Raises DataError where there are none."""
        if self.settings.back_translation:
            self._augmentation = Augmentation(self._world().world, self.settings, train)

    def assets(self) -> dict[str, Any]:
        """The words, and the sizes of the speaker where the model carries one."""
        return {**self._words().to_assets(), **({"speaker": self.speaker} if self.speaker else {})}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back what `assets` gave. Raises CheckpointError when it is not there."""
        self.words = kept_words(assets)
        self.speaker = dict(assets["speaker"]) if assets.get("speaker") else None

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh model: the follower, beside it the speaker that was trained before, which stays as it is."""
        if model.get("name", MODELS[0]) not in MODELS:
            raise RecipeError(f"unknown model '{model['name']}' for the task navigation; choose one of {MODELS[0]}")
        words = self._words()
        check_length(self.settings, words)
        sizes = {"words": len(words), "visual": encoder.grid_channels}
        follower = envdrop.build(model, **sizes, bert=words.bert, bert_trained=self.settings.train_bert)
        if self.speaker is None:
            return Navigator(follower, None)
        speaker = envdrop_speaker.build(self.speaker, **sizes)
        if speaker.config.angle_size != follower.config.angle_size:
            raise RecipeError(f"'model.angle_size' must be the speaker's, {speaker.config.angle_size}")
        return Navigator(follower, speaker.requires_grad_(False))

    def begin(self, model: nn.Module) -> dict[str, Any]:
        """Take the weights of the BERT that the settings name; returns what was taken."""
        source = self.settings.bert
        if source is None:
            return {}
        encoder = cast(BertInstructionEncoder, cast(EnvDrop, cast(Navigator, model).follower).encoder)
        return {"bert": source, "taken": encoder.load(source)}

    def adopt(self, model: nn.Module, initial: InitialRun) -> dict[str, Any]:
        """Take over a run of the speaker: the speaker, and the follower where it carries one."""
        if initial.task != SPEAKER:
            raise CheckpointError(
                f"a run of the task {initial.task}, from which the task {self.name} takes nothing over"
            )
        navigator = cast(Navigator, model)
        follower = navigator.follower
        if initial.assets.get("follower") is None:
            navigator.follower = None
        try:
            load_weights(initial.weights, navigator)
        finally:
            navigator.follower = follower
        return {"taken": "speaker" if initial.assets.get("follower") is None else "speaker and follower"}

    def collate(self, records: Sequence[Episode], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: words (B, L) and word_count (B,), path (B, P) and path_length (B,) in the world, heading (B,)."""
        paths = encode_paths(self._world().world, records)
        return {**encode_words(self._words(), self.settings, records), **paths}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Imitation and actor-critic, and where asked both again on paths that the speaker told."""
        loss: Tensor = model(lambda navigator: self._loss(navigator, batch))
        return loss

    def _loss(self, navigator: Navigator, batch: Mapping[str, Tensor]) -> Tensor:
        follower, chosen = cast(EnvDrop, navigator.follower), self.settings
        place = self._place(follower)
        imitated, explored = _shares(batch, chosen.minibatches == "next" and chosen.reinforce)
        loss = self._both(follower, place, imitated, explored, chosen.imitation_weight, None)
        if self._augmentation is None or navigator.speaker is None:
            return loss
        for part, reinforced in ((imitated, False), (explored, True)):
            if reinforced and not chosen.reinforce:
                continue
            drawn = self._augmentation.draw(len(part["path"]))
            noise = follower.features.noise(follower.action.weight) if chosen.environment_dropout else None
            told = translated(navigator.speaker, place, drawn, self._words().ids, chosen, noise)
            weight = None if reinforced else chosen.augmented_imitation_weight
            loss = loss + self._one(follower, place, told, weight, noise)
        return loss

    def _both(
        self,
        follower: EnvDrop,
        place: Place,
        imitated: Mapping[str, Tensor],
        explored: Mapping[str, Tensor],
        weight: float,
        noise: Tensor | None,
    ) -> Tensor:
        loss = self._one(follower, place, imitated, weight, noise)
        return loss + self._one(follower, place, explored, None, noise) if self.settings.reinforce else loss

    def _one(
        self,
        follower: EnvDrop,
        place: Place,
        batch: Mapping[str, Tensor],
        weight: float | None,
        noise: Tensor | None,
    ) -> Tensor:
        """Imitation times `weight`, or actor-critic where that is None."""
        chosen = self.settings
        if weight is not None:
            return weight * imitation_loss(self._walk(follower, place, batch, follow_teacher, noise=noise))
        walked = self._walk(follower, place, batch, follow_chance, noise=noise, bootstrap=True)
        return actor_critic_loss(
            follower,
            walked,
            gamma=chosen.gamma,
            entropy_weight=chosen.entropy_weight,
            value_weight=chosen.value_weight,
            normalise=cast(Normalise, chosen.normalise),
        ).loss

    def _walk(
        self, follower: EnvDrop, place: Place, batch: Mapping[str, Tensor], choose: Choose, **options: Any
    ) -> Rollout:
        journeys: Journeys = journeys_of(batch)
        instruction = follower.encode(batch["words"], batch["word_count"])
        teacher = cast(Teacher, self.settings.teacher)
        return rollout(
            follower, place, journeys, instruction, choose, teacher=teacher, steps=self.settings.max_steps, **options
        )

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Episode]) -> list[Prediction]:
        """The greedy walk as viewpoint ids parted by blanks; confidence is the geometric mean over its decisions."""
        follower = cast(EnvDrop, cast(Navigator, model).follower)
        place = self._place(follower)
        walked = self._walk(follower, place, batch, follow_best, avoid_visited=self.settings.avoid_visited)
        places, sure = np.stack(walked.viewpoint, 1), _confidence(walked)
        out = []
        for record, row, confidence in zip(records, places.tolist(), sure, strict=True):
            visited = [number for i, number in enumerate(row) if i == 0 or number != row[i - 1]]
            said = " ".join(place.world.name(number)[1] for number in visited)
            out.append(Prediction(record.episode_id, record.image_id, said, float(confidence)))
        return out

    def score(self, predictions: Sequence[Prediction], records: Sequence[Episode]) -> Scores:
        """Success rate with its interval, beside it the other metrics, and apart by language where there are several.

        Raises DataError on missing, unknown or double episode ids and on a walk that leaves its graph.
        """
        world = self._world().world
        graphs = dict(zip(world.scans, world.graphs, strict=True))
        return score_walks(predictions, records, graphs, shortest=self.settings.spl)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Raises UsageError: a submission holds camera turns, for which `clipvil submit` asks the corpus."""
        raise UsageError("submissions of navigation are written by `clipvil submit --server r2r` or rxr")

    def _place(self, follower: EnvDrop) -> Place:
        size = follower.config.angle_size
        if size not in self._places:
            self._places[size] = self._world().place(size)
        return self._places[size]

    def _world(self) -> Panoramas:
        if self._panoramas is None:
            raise UsageError(
                "a navigation run walks through houses and cannot be asked about a picture; use `clipvil evaluate`"
            )
        return self._panoramas

    def _words(self) -> Words:
        if self.words is None:
            raise UsageError(f"the task {self.name} has no vocabulary yet; call prepare or restore first")
        return self.words


def _shares(batch: Mapping[str, Tensor], parted: bool) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """What is imitated and what explored: two halves, or the whole batch twice."""
    size = len(batch["path"])
    if not parted or size < 2:
        return batch, batch
    half = size // 2
    return {k: v[:half] for k, v in batch.items()}, {k: v[half:] for k, v in batch.items()}


def _confidence(walked: Rollout) -> list[float]:
    """The geometric mean of the probabilities of the decisions that were taken."""
    total, count = torch.zeros(len(walked.start)), torch.zeros(len(walked.start))
    for logits, slots, active in zip(walked.logits, walked.slots, walked.active, strict=True):
        chosen = logits.float().log_softmax(1).cpu().gather(1, torch.from_numpy(slots).unsqueeze(1)).squeeze(1)
        mask = torch.from_numpy(active).float()
        total, count = total + chosen * mask, count + mask
    shares: list[float] = (total / count).double().exp().clamp(0, 1).tolist()
    return shares
