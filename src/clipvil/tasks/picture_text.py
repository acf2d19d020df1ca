"""What tasks share that ask a text about a picture and choose among classes: words, features, and the models."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import CheckpointError, RecipeError, UsageError
from clipvil.models.bert_weights import load_bert
from clipvil.models.clip_vil_p import ClipVilPModel
from clipvil.models.outputs import AnswerOutput
from clipvil.tasks.base import InitialRun
from clipvil.tasks.settings import one_of
from clipvil.tasks.transplant import adopt_model, initial_words
from clipvil.tasks.transplant import check_words as check_initial_words
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


@dataclass(frozen=True)
class WordSettings:
    """What such a task's settings say about words."""

    max_tokens: int = MAX_TOKENS
    min_word_count: int = 1
    tokenizer: str = "words"
    """`words`, or `wordpiece`: what clip_vil_p reads ([CLS] and [SEP] count among its `max_tokens`; published: 20)."""
    words: str | None = None
    """A vocabulary file instead of the training texts' words; of word pieces also a folder or a name, as
    bert-base-uncased: see `clipvil.text.wordpiece.WordPiece.load`."""
    vectors: str | None = None
    """Pretrained word vectors (GloVe text file) to start the word table from."""
    bert: str | None = None
    """A BERT to start clip_vil_p's text side from, where no run is started from: see `bert_weights.load_bert`."""


def check_words(settings: WordSettings) -> None:
    """Raise RecipeError for choices about words that do not go together."""
    one_of(settings.tokenizer, ("words", "wordpiece"), "tokenizer")
    if settings.tokenizer == "wordpiece" and settings.vectors:
        raise RecipeError("'task_settings.vectors' are of whole words; they do not go with the tokenizer wordpiece")
    if settings.tokenizer == "words" and settings.bert:
        raise RecipeError("'task_settings.bert' reads word pieces; set task_settings.tokenizer to wordpiece")
    if settings.max_tokens < 1:
        raise RecipeError("'task_settings.max_tokens' must be at least 1")


class PictureText(ABC):
    """The base of such tasks. A task sets `words` when it is prepared or restored, and then calls `forget`."""

    name = ""
    settings: WordSettings

    def __init__(self, settings: WordSettings) -> None:
        """Raises RecipeError for choices about words that do not go together."""
        check_words(settings)
        self.max_tokens, self.bert = settings.max_tokens, settings.bert
        self.words: Vocabulary | WordPiece | None = None
        self.forget()

    @abstractmethod
    def prepare(self, train: Sequence[Any]) -> None:
        """See `Task.prepare`."""

    @abstractmethod
    def restore(self, assets: Mapping[str, Any]) -> None:
        """See `Task.restore`."""

    def forget(self) -> None:
        """Drop what was worked out from other words."""
        self._encoded: dict[str, tuple[list[int], int]] = {}
        self._places: dict[str, tuple[tuple[int, int], ...]] = {}

    def learn_words(self, texts: Iterable[str], settings: WordSettings) -> None:
        """The vocabulary of the training texts, or the one of the named file."""
        kind = WordPiece if settings.tokenizer == "wordpiece" else Vocabulary
        self.words = (
            kind.load(settings.words) if settings.words else kind.build(texts, min_count=settings.min_word_count)
        )

    def restore_words(self, value: Any, settings: WordSettings) -> None:
        """The vocabulary of `assets`. Raises DataError when it is not there."""
        kind = WordPiece if settings.tokenizer == "wordpiece" else Vocabulary
        self.words = kind.from_json(value)

    def build_model(
        self, model: Mapping[str, Any], encoder: EncoderSpec, *, classes: int, vectors: str | None
    ) -> nn.Module:
        """A fresh model: `model["name"]` picks it, the rest are its sizes. Starts from torch's global seed.

        `vectors` is a file of word vectors to start the word table from.
        """
        words = self._words()
        name = model.get("name", "pythia")
        if name not in MODELS:
            raise RecipeError(f"unknown model '{name}' for the task {self.name}; choose one of {', '.join(MODELS)}")
        pieces = isinstance(words, WordPiece)
        if pieces != (name in PIECES):
            raise RecipeError(
                f"the model {name} reads {'word pieces' if name in PIECES else 'words'}; set "
                f"'task_settings.tokenizer' to {'wordpiece' if name in PIECES else 'words'}"
            )
        table = word_vectors(words, vectors) if vectors and isinstance(words, Vocabulary) else None
        module: nn.Module = importlib.import_module(MODELS[name]).build(
            model, words=len(words), answers=classes, channels=encoder.grid_channels, vectors=table
        )
        _check_cells(module, name, encoder)
        return module

    def continue_from(self, initial: InitialRun, train: Sequence[Any]) -> None:
        """What the run of the same task knew; of another one its word pieces, and the rest learnt from `train`.

        Raises RecipeError where the settings name other words or another BERT than the run's.
        """
        if initial.task == self.name:
            self.restore(initial.assets)
        else:
            if self.settings.tokenizer != "wordpiece":
                raise RecipeError(
                    "init: a run of another task passes on word pieces; set task_settings.tokenizer to wordpiece"
                )
            self.prepare(train)
            self.words = initial_words(initial)
            self.forget()
        check_initial_words(initial, self.settings.words, self.settings.bert, self.words)

    def adopt(self, model: nn.Module, initial: InitialRun) -> dict[str, Any]:
        """Take the body of a run of another task, and its answer head row by row where this task has answers."""
        if not isinstance(model, ClipVilPModel):
            raise CheckpointError(f"init: the model of the task {self.name} is no clip_vil_p; set model.name")
        return adopt_model(model, initial, answers=self.head_answers())

    def begin(self, model: nn.Module) -> dict[str, Any]:
        """Start the text side from a BERT, where the settings name one; returns what was taken."""
        if self.bert is None:
            return {}
        if not isinstance(model, ClipVilPModel):
            raise RecipeError("'task_settings.bert' is for the model clip_vil_p")
        found = load_bert(model, self.bert)
        return {"bert": found.source, "taken": len(found.used), "fresh": found.fresh, "dropped": found.dropped}

    def head_answers(self) -> Sequence[str] | None:
        """The answers of the classes in their order; None for a task whose classes are no answers."""
        return None

    def inputs(self, texts: Sequence[str], image_ids: Sequence[str], features: FeatureSource) -> dict[str, Tensor]:
        """What a model reads: question (B, T) and length (B,) int64, cells (B, N, C), shapes (B, 2), and where they

        apply mask (B, N) bool and boxes (B, N, 4) of regions (shares of the picture). T is `max_tokens`; of word pieces
        it is the length of the longest text, and where texts share pictures cells, shapes and mask are of the P
        distinct ones, with picture (B,) int64, which of them each text is about.
        """
        pieces = isinstance(self.words, WordPiece)
        rows = {image_id: row for row, image_id in enumerate(dict.fromkeys(image_ids))}
        shared = pieces and len(rows) < len(image_ids)
        grids = features.batch(list(rows) if shared else image_ids)
        encoded = [self._encode(text) for text in texts]
        # Recurrent models were published with a fixed number of steps; one that masks padding need not compute it.
        longest = max(length for _, length in encoded) if pieces else self.max_tokens
        batch = {
            "question": torch.tensor([places[:longest] for places, _ in encoded], dtype=torch.int64),
            "length": torch.tensor([length for _, length in encoded], dtype=torch.int64),
            "cells": grids.cells,
            "shapes": grids.shapes,
        }
        if shared:
            batch["picture"] = torch.tensor([rows[image_id] for image_id in image_ids])
        if grids.mask is not None:
            batch["mask"] = grids.mask
        if grids.boxes is not None:
            batch["boxes"] = grids.boxes
        return batch

    def places(self, text: str) -> tuple[tuple[int, int], ...]:
        """Where each of the student's tokens lies in a text, in characters: see `tasks.lessons.Lesson`.

        Raises RecipeError for whole words, whose places nothing tells.
        """
        words = self._words()
        found = self._places.get(text)
        if found is not None:
            return found
        if not isinstance(words, WordPiece):
            raise RecipeError("distillation reads word pieces; set task_settings.tokenizer to wordpiece")
        found = self._places[text] = tuple(words.offsets(text, self.max_tokens))
        return found

    def _words(self) -> Vocabulary | WordPiece:
        if self.words is None:
            raise UsageError(f"the task {self.name} has no vocabularies yet; call prepare or restore first")
        return self.words

    def _encode(self, text: str) -> tuple[list[int], int]:
        found = self._encoded.get(text)
        if found is None:
            found = self._encoded[text] = self._words().encode(text, self.max_tokens)
        return found


def forward(model: nn.Module, batch: Mapping[str, Tensor]) -> AnswerOutput:
    """What a model makes of a batch that `PictureText.inputs` made."""
    # Only models that know what to do with boxes get as far as a batch that has them: see `_check_cells`.
    # Likewise only one that reads word pieces gets a batch whose texts share pictures.
    more = {name: batch[name] for name in ("boxes", "picture") if name in batch}
    output: AnswerOutput = model(
        batch["question"], batch["length"], batch["cells"], batch.get("mask"), batch["shapes"], **more
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
