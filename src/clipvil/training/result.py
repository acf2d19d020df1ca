"""What result.json holds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from clipvil.environment import hardware, package_versions
from clipvil.features.base import FeatureSource
from clipvil.features.ready import ready_store
from clipvil.features.without import bare
from clipvil.tasks.base import Prediction, Scores
from clipvil.training.inputs import Usable, overlap
from clipvil.training.loop import Position
from clipvil.training.recipe import Recipe

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset

SCHEMA = 1
UNTRAINED = "nothing to train"
"""Why the training of a zero-shot run ended at step 0: `stopped.reason` in result.json."""


@dataclass(frozen=True)
class Judged:
    """One split's predictions in the order of its records, and their scores where it has answers."""

    predictions: list[Prediction]
    scores: Scores | None


class Stopwatch:
    """Seconds of each named lap, and of all together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = self._mark = time.monotonic()

    def lap(self, name: str) -> None:
        """Name what went by since the last lap."""
        now = time.monotonic()
        self.seconds[name], self._mark = round(now - self._mark, 3), now

    def total(self) -> float:
        """Seconds since the watch was started."""
        return round(time.monotonic() - self._start, 3)


def build_result(
    recipe: Recipe,
    model: nn.Module,
    features: FeatureSource,
    datasets: Mapping[str, Dataset],
    chosen: Mapping[str, Usable],
    judged: Mapping[str, Judged],
    position: Position,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Everything that result.json says, as JSON values.

    `seconds.training` and `seconds.evaluation` run over all resumptions, the others over this process alone.
    """
    scores = {name: value.scores.to_json() for name, value in judged.items() if value.scores}
    return {
        "schema": SCHEMA,
        "task": recipe.task,
        "metric": scores["val"]["metric"],
        "mode": scores["val"]["mode"],
        "scores": scores,
        "unscored": sorted(name for name, value in judged.items() if value.scores is None),
        "best": {"step": position.best_step, "value": position.best_value, "split": "val"},
        "stopped": {"step": position.step, "reason": position.stopped},
        "learning_curve": position.curve,
        "encoder": {**_encoder_choices(recipe, features), **asdict(features.spec)},
        "features": describe_features(features),
        "data": {name: describe_split(dataset, chosen[name]) for name, dataset in datasets.items()},
        "overlap_with_train": {name: overlap(chosen["train"].records, chosen[name].records) for name in judged},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "recipe": recipe.to_values(),
        "recipe_hash": recipe.hash(),
        "packages": package_versions(),
        "hardware": {
            **hardware(),
            "device": str(next(iter(model.parameters())).device),
            "threads": threads(),
            "processes": processes(),
        },
        "seconds": {
            **watch.seconds,
            "training": round(position.training_seconds, 3),
            "evaluation": round(position.evaluation_seconds + watch.seconds["evaluation"], 3),
            "total": watch.total(),
        },
    }


def _encoder_choices(recipe: Recipe, features: FeatureSource) -> dict[str, Any]:
    """The recipe's encoder section; of a ready store, what its manifest says, since the recipe chose nothing there."""
    from clipvil.features.store import Store

    features = bare(features)
    chosen = recipe.encoder.model_dump(mode="json")
    if ready_store(recipe.encoder.name) is None or not isinstance(features, Store):
        return chosen
    entry = features.manifest.encoder
    return {
        **chosen,
        "layer": entry.layer,
        "positions": entry.positions,
        "channels": entry.preprocess.channels if entry.preprocess else None,
        "resize": features.manifest.resize,
    }


def describe_split(dataset: Dataset, chosen: Usable) -> dict[str, Any]:
    """Which data a number was measured on."""
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "records": len(chosen.records),
        "skipped": chosen.skipped,
    }


def describe_features(features: FeatureSource) -> dict[str, Any] | None:
    """What made the features and what that cost, or which pictures were read; None for a source that is neither."""
    from clipvil.features.store import Store
    from clipvil.training.pixels import PictureSource

    features = bare(features)
    if isinstance(features, PictureSource):
        return features.describe()
    if not isinstance(features, Store):
        return None
    return {**features.manifest.model_dump(mode="json"), "cost": features.cost()}


def threads() -> int:
    """How many threads torch computes with: sums, and so the last bits of the weights, depend on it."""
    return torch.get_num_threads()


def processes() -> int:
    """How many processes train together."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1
