"""Episodes as numbers: places in the world, and the houses with their features that a run has at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipvil.errors import DataError, UsageError
from clipvil.features.blind import BlindSource
from clipvil.features.panorama import PanoramaFeatures
from clipvil.features.store import Store
from clipvil.features.without import bare
from clipvil.records import Episode
from clipvil.simulator.graph import Graph
from clipvil.simulator.views import VIEWS
from clipvil.simulator.world import World
from clipvil.tasks.navigation_rollout import Journeys, Place

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
