"""Episodes as numbers: words, places in the world, and the houses with their features that a run has at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipvil.errors import CheckpointError, DataError, RecipeError, UsageError
from clipvil.features.blind import BlindSource
from clipvil.features.panorama import PanoramaFeatures
from clipvil.features.store import Store
from clipvil.features.without import bare
from clipvil.records import Episode
from clipvil.simulator.graph import Graph
from clipvil.simulator.views import VIEWS
from clipvil.simulator.world import World
from clipvil.tasks.navigation_rollout import Journeys, Place
from clipvil.tasks.navigation_settings import WordSettings
from clipvil.text.instructions import InstructionVocabulary, split_instruction

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset
    from clipvil.encoders.base import EncoderSpec
    from clipvil.features.base import FeatureSource, GridBatch


class Panoramas:
    """The features of a navigation run. Every path has some: what is missing was found out when they were read."""

    def __init__(self, source: FeatureSource, world: World) -> None:
        """Reads all viewpoints of the world. Raises StoreError naming one that is missing, RecipeError."""
        # A run that is trained first is given what the run that asked for it has attached already.
        found: FeatureSource = source.source if isinstance(source, Panoramas) else source
        self.source: FeatureSource = bare(found)
        self.world = world
        self.values = self._read()
        self.spec: EncoderSpec = dataclasses.replace(self.source.spec, grid_channels=int(self.values.shape[2]))

    def _read(self) -> npt.NDArray[np.floating]:
        if isinstance(self.source, BlindSource):
            return np.ones((len(self.world), VIEWS, 1), np.float32)
        if not isinstance(self.source, Store):
            raise UsageError("navigation reads panoramas from a feature store, or none at all (question-only)")
        return PanoramaFeatures.from_store(self.source, self.world, angle_size=4).values

    def __contains__(self, image_id: object) -> bool:
        return True

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """A constant cell a path: batches hold places, and features are looked up in the rollouts."""
        return BlindSource().batch(image_ids)

    def place(self, angle_size: int) -> Place:
        """The world with these features, angles of that size beside them."""
        found = PanoramaFeatures(self.values, angle_size=angle_size)
        # The same numbers in their new place: a real corpus has gigabytes of them.
        self.values = found.values
        return Place(self.world, found)


def open_panoramas(datasets: Mapping[str, Dataset], features: FeatureSource) -> Panoramas:
    """The houses of all splits and their features.

    Raises DataError where a split names no graphs or a scan is unknown, StoreError where a viewpoint has no features.
    """
    graphs: dict[str, Graph] = {}
    for split, dataset in datasets.items():
        if dataset.graphs is None:
            raise DataError(
                f"the data of split '{split}' names no navigation graphs", fix="set data.graphs to their folder"
            )
        for record in dataset.records:
            if record.scan not in graphs:
                if record.scan not in dataset.graphs:
                    raise DataError(f"episode {record.episode_id}: no graph of the scan '{record.scan}'")
                graphs[record.scan] = dataset.graphs[record.scan]
    return Panoramas(features, World(graphs))


def learnt_words(settings: WordSettings, train: Sequence[Episode]) -> InstructionVocabulary:
    """The vocabulary that the settings name, or that of the training instructions. Raises DataError, RecipeError."""
    if settings.words:
        return InstructionVocabulary.load(settings.words)
    found = InstructionVocabulary.build(map(words_of, train), min_count=settings.min_word_count)
    if not found.words:
        raise RecipeError(f"no word comes {settings.min_word_count} times; lower task_settings.min_word_count")
    return found


def kept_words(assets: Mapping[str, Any]) -> InstructionVocabulary:
    """The vocabulary among a run's assets. Raises CheckpointError when it is not there."""
    words = assets.get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError("the run has no list of words")
    return InstructionVocabulary(words)


def words_of(episode: Episode) -> list[str]:
    """The words of an instruction: the corpus's own where it parted them, else by the published splitter."""
    own = episode.extra.get("words")
    return own.lower().split() if own else split_instruction(episode.instruction)


def encode_words(
    words: InstructionVocabulary, settings: WordSettings, episodes: Sequence[Episode]
) -> dict[str, Tensor]:
    """words (B, L) int64 padded with 0, word_count (B,). Raises DataError for an instruction with no words."""
    rows = []
    for episode in episodes:
        said = words_of(episode)
        if not any(any(letter.isalnum() for letter in word) for word in said):
            raise DataError(f"episode {episode.episode_id}: an instruction with no words")
        rows.append(words.encode(said, min(settings.max_words, len(said) + 2)))
    counts = [len(row) for row in rows]
    out = torch.zeros(len(rows), max(counts), dtype=torch.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = torch.tensor(row)
    return {"words": out, "word_count": torch.tensor(counts)}


def encode_paths(world: World, episodes: Sequence[Episode]) -> dict[str, Tensor]:
    """path (B, P) int64 numbers of the world filled up with the goal, path_length (B,), heading (B,) float64.

    Raises DataError for an unknown scan and for a viewpoint that is unknown or not included, naming the episode.
    """
    paths = []
    for episode in episodes:
        try:
            paths.append([world.find(episode.scan, name) for name in episode.path])
        except DataError as error:
            raise DataError(f"episode {episode.episode_id}: {error}") from None
    lengths = [len(path) for path in paths]
    out = torch.zeros(len(paths), max(lengths), dtype=torch.int64)
    for place, path in enumerate(paths):
        out[place] = torch.tensor(path + path[-1:] * (out.shape[1] - len(path)))
    heading = torch.tensor([episode.heading for episode in episodes], dtype=torch.float64)
    return {"path": out, "path_length": torch.tensor(lengths), "heading": heading}


def journeys_of(batch: Mapping[str, Tensor]) -> Journeys:
    """The paths of a batch for a rollout."""
    return Journeys(batch["heading"].cpu().numpy(), batch["path"].cpu().numpy(), batch["path_length"].cpu().numpy())
