"""The recipe's `task_settings` of the navigation tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipvil.errors import RecipeError
from clipvil.tasks.settings import one_of, read_settings

TASK, SPEAKER = "navigation", "navigation_speaker"
TEXTS = ("words", "wordpiece", "bert")


@dataclass(frozen=True)
class WordSettings:
    """What both tasks say of words and of paths."""

    text: str = "words"
    """words: the published splitter and vocabulary. wordpiece: pieces of words, of `words` or built from the training
    instructions. bert: a BERT's pieces, and that BERT reads them for the follower (CLEAR)."""
    max_words: int = 80
    """Ids of an instruction, begin and end counted; a longer one is cut (80 for R2R, 160 for RxR)."""
    min_word_count: int = 5
    words: str | None = None
    """A vocabulary instead of the training instructions' words: a file (`train_vocab.txt`), or of word pieces what
    `WordPiece.load` takes (bert-base-uncased, a folder, a vocab.txt)."""
    bert: str | None = None
    """For `text: bert`: a folder with config.json, model.safetensors and a vocabulary, or a repository of the hub as
    bert-base-multilingual-cased. Needed where no run is started from that has one."""
    train_bert: bool = False
    """Train the BERT along (with the recipe's `trunk.optimiser` and `trunk.schedule`, where they are given)."""
    teacher: str = "shortest"
    """shortest: the shortest way to the goal (published for R2R, and by CLIP-ViL for RxR too). reference: the path that
    the instruction tells, which in RxR is not the shortest (CLEAR)."""
    max_steps: int = 35
    """Decisions of an episode."""

    def check(self) -> None:
        """Raises RecipeError."""
        one_of(self.text, TEXTS, "text")
        if self.text != "bert" and (self.bert or self.train_bert):
            raise RecipeError(f"'task_settings.{'bert' if self.bert else 'train_bert'}' needs task_settings.text=bert")
        if self.text == "bert" and self.words:
            raise RecipeError("'task_settings.words' is the BERT's own with task_settings.text=bert; leave it out")
        one_of(self.teacher, ("shortest", "reference"), "teacher")
        for name, least in (("max_words", 3), ("min_word_count", 1), ("max_steps", 1)):
            if getattr(self, name) < least:
                raise RecipeError(f"'task_settings.{name}' must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class NavigationSettings(WordSettings):
    """A recipe's `task_settings` for the task `navigation`."""

    imitation_weight: float = 0.2
    reinforce: bool = True
    """Actor-critic beside imitation."""
    minibatches: str = "next"
    """next: the first half of a batch is imitated and the second explored, as in the published loop, where the two
    rollouts of an iteration take two minibatches; `training.batch_size` counts both. same: all of it, both ways."""
    gamma: float = 0.9
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    normalise: str = "total"
    spl: str = "graph"
    """What SPL takes as the length: the way through the graph, or the reference path (HAMT)."""
    avoid_visited: bool = False
    """When predicting, never go back to a place: what the published code does for submissions alone."""
    back_translation: bool = False
    """Also learn from paths that nobody described: the speaker that the run starts from tells them."""
    environment_dropout: bool = True
    """In back-translation one mask over the features for all that is seen in a rollout, by speaker and follower."""
    augmented_imitation_weight: float = 0.6
    augmented_paths: str | None = None
    """A file as R2R's (`aug_paths.json`), of which the paths alone count; without one paths are drawn in the training
    houses."""
    min_hops: int = 4
    max_hops: int = 6
    """Doors of a drawn path: a shortest way between two viewpoints."""

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> NavigationSettings:
        """Raises RecipeError for unknown keys and values that cannot be."""
        found = read_settings(cls, settings, TASK)
        found.check()
        one_of(found.minibatches, ("next", "same"), "minibatches")
        one_of(found.normalise, ("total", "batch", "none"), "normalise")
        one_of(found.spl, ("graph", "reference"), "spl")
        if not 1 <= found.min_hops <= found.max_hops:
            raise RecipeError("'task_settings.min_hops' must be at least 1 and no more than max_hops")
        if not 0 <= found.gamma <= 1:
            raise RecipeError(f"'task_settings.gamma' must lie in 0..1, not {found.gamma}")
        return found


@dataclass(frozen=True)
class SpeakerSettings(WordSettings):
    """A recipe's `task_settings` for the task `navigation_speaker`."""

    longest: int = 120
    """Words that the speaker may say."""

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> SpeakerSettings:
        """Raises RecipeError for unknown keys and values that cannot be."""
        found = read_settings(cls, settings, SPEAKER)
        found.check()
        if found.longest < 1:
            raise RecipeError("'task_settings.longest' must be at least 1")
        return found
