"""Visual question answering as classification over a closed set of answers (VQA v2's protocol)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, UsageError
from clipvil.metrics.vqa import Mode
from clipvil.models.outputs import supervised
from clipvil.records import Question
from clipvil.tasks.base import InitialRun, Prediction, Scores
from clipvil.tasks.lessons import Lesson
from clipvil.tasks.picture_text import MODELS, PictureText, WordSettings, forward
from clipvil.tasks.settings import one_of, read_settings
from clipvil.tasks.transplant import other_setting
from clipvil.tasks.vqa_scores import METRIC, MODES, by_question, fitting_mode, score_answers, write_results
from clipvil.text.answers import PUBLISHED_ANSWERS, AnswerVocabulary
from clipvil.text.vocabulary import Vocabulary
from clipvil.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource

__all__ = ["MODELS", "TOP", "Vqa", "VqaSettings", "answer_probabilities", "check_complete"]

TOP = 5


@dataclass(frozen=True)
class VqaSettings(WordSettings):
    """A recipe's `task_settings`."""

    answers: str | None = None
    """A file with one answer a line (`answers_vqa.txt`) instead of the training answers."""
    top_answers: int = PUBLISHED_ANSWERS - 1
    min_answer_count: int = 1
    loss_scale: float = 0.0
    """The mean over answers times this is the loss (published for CLIP-ViL_p: 500); 0: their sum, as for Pythia."""
    mode: str = "auto"
    """Metric mode: official, lenient, exact, evalai, or auto (official where all have ten answers, else lenient).

    `exact` is for corpora whose answers are written one way only (GQA): answers stay as they are and must be hit so."""


class Vqa(PictureText):
    """The task `vqa`. Records are `Question`s; the batch holds word rows, cells and soft targets."""

    name = "vqa"
    metric = METRIC
    record_type: type = Question
    settings: VqaSettings

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = _settings(settings)
        self.top = TOP
        self.answers: AnswerVocabulary | None = None
        super().__init__(self.settings)

    def prepare(self, train: Sequence[Question]) -> None:
        """Learn the word and answer vocabularies from the training questions, or read them from the named files."""
        chosen = self.settings
        self.forget()
        self.learn_words((record.question for record in train), chosen)
        self.answers = (
            AnswerVocabulary.load(chosen.answers, exact=chosen.mode == "exact")
            if chosen.answers
            else AnswerVocabulary.build(
                (r.answers for r in train),
                top=chosen.top_answers,
                min_count=chosen.min_answer_count,
                exact=chosen.mode == "exact",
            )
        )

    def assets(self) -> dict[str, Any]:
        """Both vocabularies."""
        words, answers = self._vocabularies()
        return {"words": words.to_json(), "answers": answers.to_json()}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back both vocabularies. Raises DataError when they are not there."""
        self.restore_words(assets.get("words"), self.settings)
        self.answers = AnswerVocabulary.from_json(assets.get("answers"))
        self.forget()

    def continue_from(self, initial: InitialRun, train: Sequence[Question]) -> None:
        """As `PictureText`; of a run of vqa its answers too. Raises RecipeError where the settings name others."""
        super().continue_from(initial, train)
        chosen = self.settings
        if chosen.answers and initial.task == self.name:
            named = AnswerVocabulary.load(chosen.answers, exact=chosen.mode == "exact")
            if list(named.answers) != list(self.head_answers()):
                raise other_setting("answers", chosen.answers, "the answers of the run")

    def head_answers(self) -> Sequence[str]:
        """The answers of the classes in their order, `<unk>` first."""
        return self._vocabularies()[1].answers

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh model: `model["name"]` picks it, the rest are its sizes. Starts from torch's global seed."""
        _, answers = self._vocabularies()
        return self.build_model(model, encoder, classes=len(answers), vectors=self.settings.vectors)

    def collate(self, records: Sequence[Question], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: what `inputs` gives, and targets (B, answers) float32 (only when every record has answers)."""
        batch = self.inputs([r.question for r in records], [r.image_id for r in records], features)
        if all(record.answers for record in records):
            batch["targets"] = self._targets(records)
        return batch

    def teacher_inputs(self, records: Sequence[Question]) -> list[Lesson]:
        """One lesson a question; right is the class with the highest score (the first of equal ones)."""
        return [
            Lesson(record.image_id, (record.question,), self.places(record.question), self._best(record))
            for record in records
        ]

    def _best(self, record: Question) -> int | None:
        soft = self._vocabularies()[1].soft_targets(record.answers) if record.answers else {}
        return max(soft, key=lambda place: (soft[place], -place)) if soft else (0 if record.answers else None)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """`logit_bce`: binary cross-entropy summed over answers, averaged over the batch; summed over trained heads.

        With `loss_scale` its mean over answers, times that.
        """
        if "targets" not in batch:
            raise DataError("a training question has no answers", fix="train on a split whose questions have answers")
        losses = [
            answer_loss(logits, batch["targets"], self.settings.loss_scale)
            for logits in supervised(forward(model, batch))
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Question]) -> list[Prediction]:
        """Best answer and the `top` best (five, unless somebody sets it) with their probabilities.

        Confidence is the softmax probability with `<unk>` taken out and the rest renormalised (Reliable VQA's MaxProb).
        """
        _, answers = self._vocabularies()
        best, index = answer_probabilities(forward(model, batch).logits).topk(min(self.top, len(answers) - 1), dim=1)
        predictions = []
        for record, values, places in zip(records, best.tolist(), index.tolist(), strict=True):
            top = tuple((answers.spelled(place), value) for place, value in zip(places, values, strict=True))
            predictions.append(Prediction(record.question_id, record.image_id, top[0][0], top[0][1], top))
        return predictions

    def score(self, predictions: Sequence[Prediction], records: Sequence[Question]) -> Scores:
        """VQA accuracy with intervals, overall, by answer type and by question type.

        Raises DataError on missing, unknown or double question ids and on questions without answers.
        """
        return score_answers(by_question(predictions), records, self.mode(records))

    def mode(self, records: Sequence[Question]) -> Mode:
        """The metric mode that `score` uses for these records."""
        chosen = self.settings.mode
        return fitting_mode(records) if chosen == "auto" else cast(Mode, chosen)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Write the result file of the VQA v2 server: a JSON list of {"question_id": int, "answer": str}.

        Raises DataError when a question comes twice or its id is not a whole number. That every question of a split is
        there is for the caller to know: `score` and `check_complete` say so.
        """
        write_results(predictions, path)

    def forget(self) -> None:
        """Drop what was worked out from other vocabularies: rows of questions, targets of answer lists."""
        super().forget()
        self._soft: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def _vocabularies(self) -> tuple[Vocabulary | WordPiece, AnswerVocabulary]:
        if self.answers is None:
            raise UsageError("the task vqa has no vocabularies yet; call prepare or restore first")
        return self._words(), self.answers

    def _targets(self, records: Sequence[Question]) -> Tensor:
        _, answers = self._vocabularies()
        rows: list[int] = []
        places: list[int] = []
        values: list[float] = []
        for row, record in enumerate(records):
            found = self._soft.get(record.answers)
            if found is None:
                soft = answers.soft_targets(record.answers)
                found = self._soft[record.answers] = (list(soft), list(soft.values()))
            rows += [row] * len(found[0])
            places += found[0]
            values += found[1]
        targets = torch.zeros(len(records), len(answers))
        targets[rows, places] = torch.tensor(values)
        return targets


def answer_loss(logits: Tensor, targets: Tensor, scale: float = 0.0) -> Tensor:
    """Binary cross-entropy of logits (B, A): summed over answers and averaged over the batch.

    With a `scale` its mean over batch and answers, times that (500 where CLIP-ViL_p is fine-tuned).
    """
    over = len(targets) if not scale else targets.numel() / scale
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / over


def answer_probabilities(logits: Tensor) -> Tensor:
    """Softmax over answers (B, A) with column 0 (`<unk>`) set to zero and the rest renormalised."""
    masked = logits.float().clone()
    masked[:, 0] = float("-inf")
    return masked.softmax(dim=1)


def check_complete(predictions: Sequence[Prediction], records: Sequence[Question]) -> None:
    """Raise DataError unless every question has exactly one prediction."""
    said, asked = by_question(predictions), {record.question_id for record in records}
    missing = next((key for key in asked if key not in said), None)
    if missing is not None:
        raise DataError(f"no prediction for question {missing}")
    extra = next((key for key in said if key not in asked), None)
    if extra is not None:
        raise DataError(f"a prediction for question {extra}, which is not among the questions")


def _settings(settings: Mapping[str, Any]) -> VqaSettings:
    chosen = read_settings(VqaSettings, settings, "vqa")
    one_of(chosen.mode, MODES, "mode")
    return chosen
