"""Visual entailment (SNLI-VE): does the picture entail a hypothesis, contradict it, or leave it open.

The model sees the picture and the hypothesis alone. With `encoder.name=question-only` it sees the hypothesis alone:
the hypothesis-only baseline, which every result about SNLI-VE should stand beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError
from clipvil.metrics.entailment import LABELS
from clipvil.models.outputs import supervised
from clipvil.records import Entailment
from clipvil.tasks.base import Prediction, Scores
from clipvil.tasks.entailment_scores import METRIC, by_pair, score_labels, write_labels
from clipvil.tasks.lessons import Lesson
from clipvil.tasks.picture_text import PictureText, WordSettings, forward
from clipvil.tasks.settings import read_settings

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource


@dataclass(frozen=True)
class EntailmentSettings(WordSettings):
    """A recipe's `task_settings`."""

    max_tokens: int = 20
    """Hypotheses of SNLI-VE have 7.4 words on average and 56 at most."""


class VisualEntailment(PictureText):
    """The task `visual_entailment`. Records are `Entailment`s; the batch holds word rows, cells and labels.

    Classes stand in the order of `LABELS`: contradiction, entailment, neutral.
    """

    name = "visual_entailment"
    metric = METRIC
    record_type: type = Entailment
    settings: EntailmentSettings

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = read_settings(EntailmentSettings, settings, self.name)
        super().__init__(self.settings)

    def prepare(self, train: Sequence[Entailment]) -> None:
        """Learn the words from the training hypotheses, or read them from the named file."""
        self.learn_words((pair.hypothesis for pair in train), self.settings)
        self.forget()

    def assets(self) -> dict[str, Any]:
        """The words, and the classes in order."""
        return {"words": self._words().to_json(), "labels": list(LABELS)}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back the words. Raises DataError when they are not there, or the classes are others."""
        self.restore_words(assets.get("words"), self.settings)
        labels = assets.get("labels")
        if labels != list(LABELS):
            raise DataError(f"must be {list(LABELS)}, not {labels}", field="labels")
        self.forget()

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh model with three classes: `model["name"]` picks it, the rest are its sizes."""
        return self.build_model(model, encoder, classes=len(LABELS), vectors=self.settings.vectors)

    def collate(self, records: Sequence[Entailment], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: what `inputs` gives, and label (B,) int64 (only when every record has one)."""
        batch = self.inputs([r.hypothesis for r in records], [r.image_id for r in records], features)
        if all(record.label for record in records):
            batch["label"] = torch.tensor([LABELS.index(r.label) for r in records], dtype=torch.int64)
        return batch

    def teacher_inputs(self, records: Sequence[Entailment]) -> list[Lesson]:
        """One lesson a pair: only where the hypothesis is entailed does it belong to the picture."""
        return [
            Lesson(
                record.image_id,
                (record.hypothesis,),
                self.places(record.hypothesis),
                LABELS.index(record.label) if record.label else None,
                polarity={"entailment": 1, "contradiction": -1}.get(record.label, 0),
            )
            for record in records
        ]

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over the three classes, averaged over the batch; summed over the heads that are trained."""
        if "label" not in batch:
            raise DataError("a training pair has no label", fix="train on a split whose pairs have labels")
        heads = supervised(forward(model, batch))
        return torch.stack([functional.cross_entropy(logits, batch["label"]) for logits in heads]).sum()

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Entailment]) -> list[Prediction]:
        """The likeliest label, and all three with their probabilities (softmax), best first."""
        chances, order = forward(model, batch).logits.float().softmax(dim=1).sort(dim=1, descending=True)
        predictions = []
        for record, values, places in zip(records, chances.tolist(), order.tolist(), strict=True):
            top = tuple((LABELS[place], value) for place, value in zip(places, values, strict=True))
            predictions.append(Prediction(record.pair_id, record.image_id, top[0][0], top[0][1], top))
        return predictions

    def score(self, predictions: Sequence[Prediction], records: Sequence[Entailment]) -> Scores:
        """Accuracy with intervals, by class, with precision and F1.

        Raises DataError on missing, unknown or double pair ids and on pairs without a label.
        """
        return score_labels(by_pair(predictions), records)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Write a JSON list of {"pairID", "gold_label"}. SNLI-VE has no server: `clipvil score entailment` reads it."""
        write_labels(predictions, path)
