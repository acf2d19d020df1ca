"""The task protocol, and what every task returns: predictions with confidence, scores with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clipvil.datasets.base import Dataset
    from clipvil.encoders.base import EncoderSpec
    from clipvil.features.base import FeatureSource
    from clipvil.tasks.losses import LossTerms


@dataclass(frozen=True)
class Prediction:
    """One output for one record. `confidence` lies in 0..1; `top` holds (output, confidence), best first."""

    record_id: str
    image_id: str
    output: str
    confidence: float
    top: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One line of predictions.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class Score:
    """A mean with its 95 % interval (bootstrap clustered by picture), on the metric's own scale (0 to 100)."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """The result of one evaluation.

    `breakdowns` maps a heading ("answer_type") to groups; `per_record` maps a record id to its own score, so that two
    runs can be compared record by record with a paired test; `images` maps the same ids to pictures (the clusters).
    """

    metric: str
    mode: str
    overall: Score
    breakdowns: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    per_record: Mapping[str, float] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What result.json holds: everything but the values record by record, which stand beside the predictions."""
        return {
            "metric": self.metric,
            "mode": self.mode,
            "overall": asdict(self.overall),
            "breakdowns": {k: {g: asdict(s) for g, s in v.items()} for k, v in self.breakdowns.items()},
        }


@dataclass(frozen=True)
class InitialRun:
    """A finished run that another one starts from: the task it was of, that task's assets, and the files it left."""

    task: str
    assets: Mapping[str, Any]
    """What the task's `assets()` was."""
    recipe: Mapping[str, Any]
    """Plain values, every default written out."""
    weights: Path
    """A safetensors file of the model's state."""


class Task(Protocol):
    """One task. A task object is made for one run; `prepare` learns vocabularies from the training records.

    `records` are of the one record type that the task names, or what its `units` made of them; `model` is what `build`
    returned. What only some tasks have is not asked of all: `trains = False` (see `trains`), `units`, `light`,
    `attach`, `prepare_training`, `begin`, `at_epoch`, `stage`, `estimate`, `continue_from` (see the functions of those
    names), `order` (see `reading_order`), `refuses` (see `refusal`), `loss_weights` (see `LossTerms`) and
    `adopt(model, initial: InitialRun) -> JSON report`, which takes over what it can of a run of another task.
    """

    name: str
    metric: str
    record_type: type

    def prepare(self, train: Sequence[Any]) -> None:
        """Learn what depends on the training records alone (word and answer vocabularies)."""
        ...

    def assets(self) -> dict[str, Any]:
        """JSON values that, given back to `restore`, make the task what `prepare` made it."""
        ...

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back what `assets` returned."""
        ...

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh model from the recipe's `model` section for features of `encoder`; follows torch's global seed."""
        ...

    def collate(self, records: Sequence[Any], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: tensors only, first dimension B."""
        ...

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor | LossTerms:
        """The training loss: a scalar that is a mean over the records, or `LossTerms` where it is none."""
        ...

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Any]) -> list[Prediction]:
        """One prediction a record, in order. No gradients."""
        ...

    def score(self, predictions: Sequence[Prediction], records: Sequence[Any]) -> Scores:
        """Judge predictions. Raises DataError on missing, unknown or double record ids."""
        ...

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Write the file that the task's evaluation server takes."""
        ...


def trains(task: Task) -> bool:
    """Whether the task has anything to train. One that says `trains = False` is built and judged at once."""
    return bool(getattr(task, "trains", True))


def units(task: Task, records: Sequence[Any]) -> Sequence[Any]:
    """What the task trains on and predicts, made from the records of a split (its `units(records)`).

    For most tasks the records themselves; for captioning a picture with all its captions.
    """
    own = getattr(task, "units", None)
    return records if own is None else cast("Sequence[Any]", own(records))


def begin(task: Task, model: nn.Module) -> dict[str, Any]:
    """Let a task start a fresh model from weights that others published (its `begin(model)`); what it took, as JSON."""
    own = getattr(task, "begin", None)
    return {} if own is None else dict(own(model))


def attach(task: Task, datasets: Mapping[str, Dataset], features: FeatureSource) -> FeatureSource:
    """Let a task look at corpora and features as wholes before anything is collated (its `attach(datasets, features)`).

    What it returns stands in the place of the features from then on. For most tasks that is the features themselves;
    navigation takes graphs and panoramas from there.
    """
    own = getattr(task, "attach", None)
    return features if own is None else cast("FeatureSource", own(datasets, features))


def prepare_training(task: Task, train: Sequence[Any]) -> None:
    """Let a task learn what only training needs, after `prepare` or `restore` (its `prepare_training(train)`)."""
    own = getattr(task, "prepare_training", None)
    if own is not None:
        own(train)


def at_epoch(task: Task, epoch: float) -> None:
    """Tell a task that wants to know how many epochs were seen before this step (its `at_epoch(epoch)`)."""
    own = getattr(task, "at_epoch", None)
    if own is not None:
        own(epoch)


def stage(task: Task) -> int:
    """Which part of its training a task is in (its `stage()`; 0 for one that knows a single one).

    Scores of an earlier stage judge a model that was not yet asked everything: the best step is of the last stage.
    """
    own = getattr(task, "stage", None)
    return 0 if own is None else int(own())


def light(task: Task) -> Task:
    """The task as it judges while it trains: its `light()`, which is cheaper than the last judgement, or itself."""
    own = getattr(task, "light", None)
    return task if own is None else cast(Task, own())


def continue_from(task: Task, initial: InitialRun, train: Sequence[Any]) -> None:
    """Make the task what it was in the run that this one starts from, in the place of `prepare`.

    A task's own `continue_from(initial, train)` may also learn from the training records, or take what it knows from a
    run of another task. By default the assets of a run of the same task are restored, and after a run of another task
    the task is prepared anew.
    """
    own = getattr(task, "continue_from", None)
    if own is not None:
        own(initial, train)
    elif initial.task == task.name:
        task.restore(initial.assets)
    else:
        task.prepare(train)


def refusal(task: Task, encoder: str) -> str:
    """Why a task cannot be done with the encoder of that name (its `refuses(encoder)`); empty where it can."""
    own = getattr(task, "refuses", None)
    return "" if own is None else str(own(encoder))


def reading_order(task: Task, records: Sequence[Any]) -> Sequence[int]:
    """The order in which a task wants to predict: its own (`order(records)`, a permutation), or that of the records."""
    own = getattr(task, "order", None)
    return range(len(records)) if own is None else own(records)


def estimate(task: Task, model: nn.Module, records: Sequence[Any]) -> str:
    """What predicting the records will take, in a line for people; empty for a task that does not say."""
    own = getattr(task, "estimate", None)
    return "" if own is None else str(own(model, records))
