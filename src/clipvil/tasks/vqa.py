"""Visual question answering as classification over a closed set of answers (VQA v2's protocol)."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.metrics.vqa import Mode
from clipvil.models.outputs import AnswerOutput, supervised
from clipvil.records import Question
from clipvil.tasks.base import Prediction, Scores
from clipvil.tasks.settings import one_of, read_settings
from clipvil.tasks.vqa_scores import METRIC, MODES, by_question, fitting_mode, score_answers, write_results
from clipvil.text.answers import PUBLISHED_ANSWERS, AnswerVocabulary
from clipvil.text.vocabulary import MAX_TOKENS, Vocabulary, word_vectors
from clipvil.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource

# Model name -> module with build(settings, words=, answers=, channels=, vectors=).
# What forward returns: see clipvil.models.outputs.
MODELS = {
    "pythia": "clipvil.models.pythia",
    "mcan": "clipvil.models.mcan",
    "movie_mcan": "clipvil.models.movie_mcan",
    "clip_vil_p": "clipvil.models.clip_vil_p_answers",
}
PIECES = ("clip_vil_p",)
"""Models that read word pieces."""
TOP = 5


@dataclass(frozen=True)
class VqaSettings:
    """A recipe's `task_settings`."""

    max_tokens: int = MAX_TOKENS
    min_word_count: int = 1
    tokenizer: str = "words"
    """`words`, or `wordpiece`: what clip_vil_p reads ([CLS] and [SEP] count among its `max_tokens`; published: 20)."""
    words: str | None = None
    """A vocabulary file instead of the training questions' words; of word pieces also a folder or a name, as
    bert-base-uncased: see `clipvil.text.wordpiece.WordPiece.load`."""
    vectors: str | None = None
    """Pretrained word vectors (GloVe text file) to start the word table from."""
    answers: str | None = None
    """A file with one answer a line (`answers_vqa.txt`) instead of the training answers."""
    top_answers: int = PUBLISHED_ANSWERS - 1
    min_answer_count: int = 1
    mode: str = "auto"
    """Metric mode: official, lenient, exact, evalai, or auto (official where all have ten answers, else lenient).

    `exact` is for corpora whose answers are written one way only (GQA): answers stay as they are and must be hit so."""


class Vqa:
    """The task `vqa`. Records are `Question`s; the batch holds word rows, cells and soft targets."""

    name = "vqa"
    metric = METRIC
    record_type: type = Question

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = _settings(settings)
        self.top = TOP
        self.words: Vocabulary | WordPiece | None = None
        self.answers: AnswerVocabulary | None = None
        self._forget()

    def prepare(self, train: Sequence[Question]) -> None:
        """Learn the word and answer vocabularies from the training questions, or read them from the named files."""
        chosen = self.settings
        self._forget()
        kind = WordPiece if chosen.tokenizer == "wordpiece" else Vocabulary
        self.words = (
            kind.load(chosen.words)
            if chosen.words
            else kind.build((r.question for r in train), min_count=chosen.min_word_count)
        )
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
        kind = WordPiece if self.settings.tokenizer == "wordpiece" else Vocabulary
        self.words = kind.from_json(assets.get("words"))
        self.answers = AnswerVocabulary.from_json(assets.get("answers"))
        self._forget()

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh model: `model["name"]` picks it, the rest are its sizes. Starts from torch's global seed."""
        words, answers = self._vocabularies()
        name = model.get("name", "pythia")
        if name not in MODELS:
            raise RecipeError(f"unknown model '{name}' for the task vqa; choose one of {', '.join(MODELS)}")
        pieces = isinstance(words, WordPiece)
        if pieces != (name in PIECES):
            raise RecipeError(
                f"the model {name} reads {'word pieces' if name in PIECES else 'words'}; set "
                f"'task_settings.tokenizer' to {'wordpiece' if name in PIECES else 'words'}"
            )
        vectors = None
        if self.settings.vectors and isinstance(words, Vocabulary):
            vectors = word_vectors(words, self.settings.vectors)
        module: nn.Module = importlib.import_module(MODELS[name]).build(
            model, words=len(words), answers=len(answers), channels=encoder.grid_channels, vectors=vectors
        )
        _check_cells(module, name, encoder)
        return module

    def collate(self, records: Sequence[Question], features: FeatureSource) -> dict[str, Tensor]:
        """One batch: question (B, T) and length (B,) int64, cells (B, N, C), shapes (B, 2), and where they apply

        mask (B, N) bool, boxes (B, N, 4) of regions (shares of the picture) and targets (B, answers) float32 (only when
        every record has answers).
        """
        grids = features.batch([record.image_id for record in records])
        encoded = [self._encode(record.question) for record in records]
        batch = {
            "question": torch.tensor([rows for rows, _ in encoded], dtype=torch.int64),
            "length": torch.tensor([length for _, length in encoded], dtype=torch.int64),
            "cells": grids.cells,
            "shapes": grids.shapes,
        }
        if grids.mask is not None:
            batch["mask"] = grids.mask
        if grids.boxes is not None:
            batch["boxes"] = grids.boxes
        if all(record.answers for record in records):
            batch["targets"] = self._targets(records)
        return batch

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """`logit_bce`: binary cross-entropy summed over answers, averaged over the batch; summed over trained heads."""
        if "targets" not in batch:
            raise DataError("a training question has no answers", fix="train on a split whose questions have answers")
        targets = batch["targets"]
        losses = [
            functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(targets)
            for logits in supervised(_forward(model, batch))
        ]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def predict(self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Question]) -> list[Prediction]:
        """Best answer and the `top` best (five, unless somebody sets it) with their probabilities.

        Confidence is the softmax probability with `<unk>` taken out and the rest renormalised (Reliable VQA's MaxProb).
        """
        _, answers = self._vocabularies()
        best, index = answer_probabilities(_forward(model, batch).logits).topk(min(self.top, len(answers) - 1), dim=1)
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

    def _forget(self) -> None:
        """Drop what was worked out from other vocabularies: rows of questions, targets of answer lists."""
        self._encoded: dict[str, tuple[list[int], int]] = {}
        self._soft: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def _vocabularies(self) -> tuple[Vocabulary | WordPiece, AnswerVocabulary]:
        if self.words is None or self.answers is None:
            raise UsageError("the task vqa has no vocabularies yet; call prepare or restore first")
        return self.words, self.answers

    def _encode(self, question: str) -> tuple[list[int], int]:
        found = self._encoded.get(question)
        if found is None:
            words, _ = self._vocabularies()
            found = self._encoded[question] = words.encode(question, self.settings.max_tokens)
        return found

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


def _forward(model: nn.Module, batch: Mapping[str, Tensor]) -> AnswerOutput:
    # Only models that know what to do with boxes get as far as a batch that has them: see `_check_cells`.
    regions = {"boxes": batch["boxes"]} if "boxes" in batch else {}
    output: AnswerOutput = model(
        batch["question"], batch["length"], batch["cells"], batch.get("mask"), batch["shapes"], **regions
    )
    return output


def _check_cells(module: nn.Module, name: str, encoder: EncoderSpec) -> None:
    """Refuse what a model cannot make of regions, which lie in no grid. Raises RecipeError."""
    if encoder.cells == "grid":
        return
    if "boxes" not in inspect.signature(module.forward).parameters:
        raise RecipeError(f"the model {name} reads grids, and {encoder.name} has regions; choose another model")
    if encoder.cells == "regions" and getattr(getattr(module, "config", None), "cell_positions", False):
        raise RecipeError(
            f"'model.cell_positions' needs to know where cells lie, and the regions of {encoder.name} came without "
            "boxes; set it to false"
        )


def _settings(settings: Mapping[str, Any]) -> VqaSettings:
    chosen = read_settings(VqaSettings, settings, "vqa")
    one_of(chosen.mode, MODES, "mode")
    one_of(chosen.tokenizer, ("words", "wordpiece"), "tokenizer")
    if chosen.tokenizer == "wordpiece" and chosen.vectors:
        raise RecipeError("'task_settings.vectors' are of whole words; they do not go with the tokenizer wordpiece")
    if chosen.max_tokens < 1:
        raise RecipeError("'task_settings.max_tokens' must be at least 1")
    return chosen
