"""What a recipe can choose of the task `captioning`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipvil.errors import RecipeError
from clipvil.tasks.settings import one_of, read_settings
from clipvil.text.caption_vocabulary import PUBLISHED_MAX_LENGTH, PUBLISHED_MIN_COUNT

if TYPE_CHECKING:
    from clipvil.models.decoding import Decoding

TASK = "captioning"
OBJECTIVES = ("cross_entropy", "self_critical")
BASELINES = ("greedy", "leave_one_out")


@dataclass(frozen=True)
class CaptioningSettings:
    """A recipe's `task_settings`; the defaults are the published ones."""

    max_length: int = PUBLISHED_MAX_LENGTH
    """Words after which a training caption is cut."""
    min_word_count: int = PUBLISHED_MIN_COUNT
    vocabulary: str | None = None
    """A file as `clipvil captions document-frequencies` writes it, instead of the training captions' words."""
    captions_per_image: int = 5
    """Captions of a picture in a batch, drawn anew each time; 0 means all that it has."""
    objective: str = "cross_entropy"
    label_smoothing: float = 0.0
    scheduled_sampling_start: int = -1
    """The epoch from which on words of the input are replaced by the model's own; below 0 never."""
    scheduled_sampling_every: int = 5
    """After so many epochs it happens more often, by `scheduled_sampling_increase`, up to `scheduled_sampling_max`."""
    scheduled_sampling_increase: float = 0.05
    scheduled_sampling_max: float = 0.25
    samples: int = 5
    """Captions drawn of each picture in self-critical training."""
    baseline: str = "greedy"
    """What a sample's reward is held against: `greedy`, or `leave_one_out`, the mean of the other samples."""
    temperature: float = 1.0
    reward_cider: float = 1.0
    reward_bleu: float = 0.0
    """What a sentence's BLEU-4 counts in the reward, beside `reward_cider` times CIDEr-D."""
    frequencies: str | None = None
    """A file of `clipvil captions document-frequencies`; from the training captions where left out."""
    decode_max_length: int = 20
    beams: int = 1
    """Beams of the last judgement and of `clipvil caption`; while it trains, captions are greedy."""
    length_penalty: str = ""
    no_repeat: bool = False
    block_trigrams: bool = False
    suppress_unknown: bool = False
    groups: int = 1
    diversity: float = 0.5

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> CaptioningSettings:
        """From a recipe. Raises RecipeError for an unknown key, a wrong type or a value out of range."""
        chosen = read_settings(cls, settings, TASK)
        one_of(chosen.objective, OBJECTIVES, "objective")
        one_of(chosen.baseline, BASELINES, "baseline")
        for key, least in _LEAST.items():
            if getattr(chosen, key) < least:
                raise RecipeError(f"'task_settings.{key}' must be at least {least}, not {getattr(chosen, key)}")
        for key in ("label_smoothing", "scheduled_sampling_increase", "scheduled_sampling_max"):
            if not 0 <= getattr(chosen, key) < 1:
                raise RecipeError(f"'task_settings.{key}' must lie in 0..1, 1 excluded, not {getattr(chosen, key)}")
        if not chosen.temperature > 0:
            raise RecipeError(f"'task_settings.temperature' must be above 0, not {chosen.temperature}")
        if chosen.baseline == "leave_one_out" and chosen.samples < 2:
            raise RecipeError("'task_settings.samples' must be at least 2 for the baseline leave_one_out")
        chosen.decoding()
        return chosen

    def decoding(self) -> Decoding:
        """How captions are made in the last judgement."""
        from clipvil.models.decoding import Decoding

        if self.beams == 1:
            return self.greedy()
        return Decoding(
            method="beam",
            beams=self.beams,
            max_length=self.decode_max_length,
            length_penalty=self.length_penalty,
            no_repeat=self.no_repeat,
            block_trigrams=self.block_trigrams,
            suppress_unknown=self.suppress_unknown,
            groups=self.groups,
            diversity=self.diversity,
        )

    def greedy(self) -> Decoding:
        """How captions are made while it trains."""
        from clipvil.models.decoding import Decoding

        return Decoding(
            method="greedy",
            max_length=self.decode_max_length,
            no_repeat=self.no_repeat,
            block_trigrams=self.block_trigrams,
            suppress_unknown=self.suppress_unknown,
        )

    def sampling(self) -> Decoding:
        """How the samples of self-critical training are drawn."""
        from clipvil.models.decoding import Decoding

        return Decoding(
            method="sample",
            samples=self.samples,
            max_length=self.decode_max_length,
            temperature=self.temperature,
        )

    def replaced(self, epoch: float) -> float:
        """Which share of input words is replaced after `epoch` epochs (scheduled sampling)."""
        if self.scheduled_sampling_start < 0 or epoch <= self.scheduled_sampling_start:
            return 0.0
        rises = int(epoch - self.scheduled_sampling_start) // self.scheduled_sampling_every
        return min(self.scheduled_sampling_increase * rises, self.scheduled_sampling_max)


_LEAST = {
    "max_length": 1,
    "min_word_count": 1,
    "captions_per_image": 0,
    "scheduled_sampling_every": 1,
    "samples": 1,
    "decode_max_length": 1,
    "beams": 1,
    "reward_cider": 0,
    "reward_bleu": 0,
}
