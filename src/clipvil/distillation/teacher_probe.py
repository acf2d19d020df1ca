"""What a frozen teacher knows of a task by itself: a linear probe in the student's place, trained by the same loop.

The task `teacher_probe` is another task (`of`, with its `settings`) whose model is told nothing but [V, T, V * T,
|V - T|] of the teacher's unit vectors of picture and text, standardised over training: a linear map gives the classes,
or, of a task with choices, the score of each. Loss, choice of the step, predictions and scores are those of the task.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipvil.distillation.cache import TextCache
from clipvil.distillation.probe import probe_features
from clipvil.distillation.text_teachers import TowerTeacher
from clipvil.encoders.base import EncoderSpec
from clipvil.errors import EncoderError, RecipeError, UsageError
from clipvil.features.base import FeatureSource, pooled_of
from clipvil.features.without import Without, bare
from clipvil.tasks.around import Around
from clipvil.tasks.base import Prediction, light, units
from clipvil.tasks.registry import create_task
from clipvil.tasks.settings import one_of, read_settings

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset

TASKS = ("vqa", "visual_entailment", "vcr")
_TEXTS = ("question", "hypothesis")
_KEPT = "teacher"


@dataclass(frozen=True)
class ProbeSettings:
    """A recipe's `task_settings`."""

    of: str = "vqa"
    """The task that is done, with its own `settings`."""
    settings: dict[str, Any] = field(default_factory=dict)
    teacher: str = "mini/contrastive"
    """An encoder with two towers."""
    resize: str = "square"


class TeacherProbe(Around):
    """The task `teacher_probe`. Records are those of the task that it is of."""

    name = "teacher_probe"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = read_settings(ProbeSettings, settings, self.name)
        one_of(self.settings.of, TASKS, "of")
        super().__init__(light(create_task(self.settings.of, self.settings.settings)))
        self._texts: TextCache | None = None
        self._rows: dict[tuple[str, ...], int] = {}

    def units(self, records: Sequence[Any]) -> Sequence[Any]:
        """Those of the task."""
        return units(self.inner, records)

    def attach(self, datasets: Mapping[str, Dataset], features: FeatureSource) -> FeatureSource:
        """The teacher's features of the same pictures, and what it says of all texts: computed once, and kept beside

        the store of the student's features.
        Raises UsageError where there is no such store, EncoderError for a teacher without two towers.
        """
        folder = getattr(bare(features), "path", None)
        if folder is None:
            raise UsageError(f"the task {self.name} needs features of pictures; choose another encoder")
        own = self._pictures(datasets, Path(folder).parent)
        texts = list(dict.fromkeys(t for data in datasets.values() for r in data.records for t in self.texts(r)))
        self._texts = TextCache(self._tower(), Path(folder).parent / _KEPT, texts, "float32")
        self._rows = {text: place for place, text in enumerate(texts)}
        return Without(own, features.hidden) if isinstance(features, Without) else own

    def texts(self, record: Any) -> list[tuple[str, ...]]:
        """What of a record the teacher reads, in parts: its one text, or one for each choice of each problem."""
        problems = getattr(self.inner, "problems", None)
        if problems is not None:
            return [problem.parts(choice) for problem in problems(record) for choice in range(len(problem.choices))]
        return [(next(getattr(record, name) for name in _TEXTS if hasattr(record, name)),)]

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A linear map. `model` must be empty: there is nothing to choose."""
        if model:
            raise RecipeError(f"the task {self.name} has no model to choose; leave 'model.{next(iter(model))}' out")
        if encoder.pooled_channels is None:
            raise EncoderError(f"{encoder.name} has no pooled vector to hold texts against")
        if hasattr(self.inner, "problems"):
            return ProbeModel(encoder.pooled_channels, 1, choices=True)
        head = getattr(self.inner, "head_answers", lambda: None)()
        classes = len(head) if head is not None else len(self.inner.assets()["labels"])
        return ProbeModel(encoder.pooled_channels, classes)

    def collate(self, records: Sequence[Any], features: FeatureSource) -> dict[str, Tensor]:
        """The batch of the task, with the probe's features (B, S, 4 D) of S texts a record in place of its cells."""
        assert self._texts is not None
        batch = self.inner.collate(records, features)
        for name in ("mask", "boxes"):
            batch.pop(name, None)
        told = [[self._rows[text] for text in self.texts(record)] for record in records]
        pictures = pooled_of(features, [record.image_id for record in records])
        if pictures is None:
            raise UsageError(f"these features of {features.spec.name} were stored without pooled vectors")
        texts = self._texts.vectors[self._texts.rows[torch.tensor(told)]].float()
        count, each = texts.shape[:2]
        pairs = pictures[:, None].expand(-1, each, -1).flatten(0, 1), texts.flatten(0, 1)
        batch["cells"] = probe_features(*pairs).unflatten(0, (count, each))
        return batch

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Any:
        """That of the task."""
        return self.inner.loss(model, batch)

    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Any]) -> list[Prediction]:
        """As the task does; of rationales those given the right answer alone."""
        return self.inner.predict(model, batch, records)

    def _tower(self) -> TowerTeacher:
        from clipvil.encoders.registry import create_encoder
        from clipvil.encoders.weights import UntrainedWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UntrainedWarning)  # extraction says it again
            own = getattr(create_encoder(self.settings.teacher), "text", None)
        if own is None:
            raise EncoderError(f"{self.settings.teacher} has no text side; name a teacher with two towers")
        return TowerTeacher(own())

    def _pictures(self, datasets: Mapping[str, Dataset], folder: Path) -> FeatureSource:
        from clipvil.training.inputs import open_features
        from clipvil.training.recipe import EncoderChoice, FeatureChoice, Recipe

        encoder = EncoderChoice(name=self.settings.teacher, resize=self.settings.resize)
        digest = _digest(
            encoder.model_dump(mode="json"), {k: p for d in datasets.values() for k, p in d.pictures.items()}
        )
        chosen = FeatureChoice(store=str(folder / f"{_KEPT}-{digest}"), dtype="float32")
        return open_features(Recipe(encoder=encoder, features=chosen), datasets, folder, quiet=True)


@dataclass(frozen=True)
class ProbeOutput:
    """logits (B, C): classes, or the choices of all problems behind each other."""

    logits: Tensor


class ProbeModel(nn.Module):
    """A linear map of standardised features. It is called as the task's own models are, and looks at `cells` alone."""

    def __init__(self, channels: int, classes: int, *, choices: bool = False) -> None:
        super().__init__()
        self.choices = choices
        self.standard = nn.BatchNorm1d(4 * channels, affine=False, momentum=None)
        self.linear = nn.Linear(4 * channels, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, question: Tensor, length: Tensor, cells: Tensor, *others: Any, **more: Any) -> ProbeOutput:
        """`cells` (B, S, 4 D), with S = 1 where there are no choices."""
        scores = self.linear(self.standard(cells.flatten(0, 1))).unflatten(0, cells.shape[:2])
        return ProbeOutput(scores[..., 0] if self.choices else scores[:, 0])


def _digest(encoder: Mapping[str, Any], pictures: Mapping[str, Path]) -> str:
    """Stands for a store of these pictures. Their files count: another corpus may use the same ids."""
    text = json.dumps([encoder, sorted((key, str(path)) for key, path in pictures.items())], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
