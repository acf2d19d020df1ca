"""Visual commonsense reasoning (VCR): which of four answers fits, and which of four rationales explains it.

Every choice is a sequence of its own (question and answer; question, right answer and rationale), about a picture that
is read in once, and one head gives each a score; cross-entropy over the four. With `encoder.name=question-only` the
model sees no picture: what questions and choices alone give away, tags among them, which results should stand beside.

Tags are words (names that say nothing of the sex, see `clipvil.text.tags`) and, with `tie`, also what stands in their
box: the mean of the projected cells that the box covers, each by how much of the box lies in it, is added to the
embedding of every piece of the tag. The tie is our own; published models read one feature a box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError
from clipvil.metrics.vcr import CHOICES, Said, choice
from clipvil.models.clip_vil_p import ClipVilPModel, ClipVilPOutput, check_request
from clipvil.models.clip_vil_p_choices import build
from clipvil.records import Commonsense
from clipvil.tasks.base import InitialRun, Prediction, Scores
from clipvil.tasks.growing import grown
from clipvil.tasks.lessons import Lesson
from clipvil.tasks.picture_text import PictureText, WordSettings
from clipvil.tasks.settings import one_of, read_settings
from clipvil.tasks.transplant import adopt_model, initial_words
from clipvil.tasks.vcr_batches import (
    PieceEncoder,
    Problem,
    Reading,
    answer_problem,
    draw_texts,
    draw_up,
    rationale_problem,
)
from clipvil.tasks.vcr_scores import COLUMNS, METRIC, columns_of, score_predictions, write_columns
from clipvil.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource

SUBTASKS = ("answer", "rationale", "both")


@dataclass(frozen=True)
class VcrSettings(WordSettings):
    """A recipe's `task_settings`."""

    tokenizer: str = "wordpiece"
    max_tokens: int = 220
    """Pieces of a sequence, special ones included (UNITER: 220); longer ones lose the end of their longest part."""
    subtask: str = "both"
    """`answer` (Q->A), `rationale` (QA->R) or `both`: one model for the two, trained on both losses at once."""
    tie: bool = True
    """Whether tags are tied to the cells of their boxes."""
    conditions: str = "all"
    """At the last judgement rationales are asked for given each of the four answers (`all`: what the leaderboard's file
    holds, 20 sequences a question), or given the right one alone (`gold`: 8). While training it is always `gold`."""


class Vcr(PictureText):
    """The task `vcr`. Records are `Commonsense`; for the batch see `vcr_batches.draw_up`.

    A prediction's `output` is the number of the chosen answer (of the rationale where only that is asked), its
    `confidence` the probability of everything that was chosen, and its `top` the official columns by name with their
    probabilities, in official order.
    """

    name = "vcr"
    metric = METRIC
    record_type: type = Commonsense
    settings: VcrSettings

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = read_settings(VcrSettings, settings, self.name)
        super().__init__(self.settings)
        one_of(self.settings.subtask, SUBTASKS, "subtask")
        one_of(self.settings.conditions, ("all", "gold"), "conditions")
        if self.settings.tokenizer != "wordpiece":
            raise RecipeError("the task vcr reads word pieces; set 'task_settings.tokenizer' to wordpiece")
        self.every_answer = self.settings.conditions == "all"

    def forget(self) -> None:
        """Drop what was worked out from other words."""
        super().forget()
        self._encoder: PieceEncoder | None = None

    def light(self) -> Vcr:
        """The task as it judges while it trains: rationales given the right answer alone."""
        other = Vcr(vars(self.settings))
        other.words, other.every_answer = self.words, False
        return other

    def prepare(self, train: Sequence[Commonsense]) -> None:
        """Learn the word pieces from the training questions and their choices, or read them from the named file."""
        self.learn_words(_sentences(train, self.settings.subtask), self.settings)
        self.forget()

    def assets(self) -> dict[str, Any]:
        """The word pieces."""
        return {"words": self._words().to_json()}

    def restore(self, assets: Mapping[str, Any]) -> None:
        """Take back the word pieces. Raises DataError when they are not there."""
        self.restore_words(assets.get("words"), self.settings)
        self.forget()

    def continue_from(self, initial: InitialRun, train: Sequence[Commonsense]) -> None:
        """The word pieces of the other run, and behind them those words of the training split that it had not."""
        if initial.task == self.name:
            self.restore(initial.assets)
            return
        there = initial_words(initial)
        own = WordPiece.build(_sentences(train, self.settings.subtask), min_count=self.settings.min_word_count)
        new = [piece for piece in own.pieces if piece not in set(there.pieces)]
        self.words = WordPiece([*there.pieces, *new], lowercase=there.lowercase, typed_specials=there.typed_specials)
        self.forget()

    def build(self, model: Mapping[str, Any], encoder: EncoderSpec) -> nn.Module:
        """A fresh CLIP-ViL_p with a head that scores sequences. Raises RecipeError for another model or regions."""
        check_request(model, encoder, self.name)
        return build(model, words=len(self._words()), channels=encoder.grid_channels)

    def adopt(self, model: nn.Module, initial: InitialRun) -> dict[str, Any]:
        """Take the body of a run of another task; tables of words and positions that are longer here go on fresh."""
        with grown(initial, cast(ClipVilPModel, model)) as enlarged:
            return adopt_model(cast(ClipVilPModel, model), enlarged)

    def collate(self, records: Sequence[Commonsense], features: FeatureSource) -> dict[str, Tensor]:
        """One batch, see `vcr_batches.draw_up`: answers, then rationales given the right answer (where it is not known,

        the first; no label then).
        """
        problems = [self.problems(record) for record in records]
        return draw_up(records, problems, self._pieces(), features, tie=self.settings.tie)

    def problems(self, record: Commonsense) -> list[Problem]:
        """What a batch asks of a question, in words: its answer, its rationale, or both."""
        found = [] if self.settings.subtask == "rationale" else [answer_problem(record)]
        if self.settings.subtask != "answer":
            found.append(rationale_problem(record, record.answer_label or 0))
        return found

    def teacher_rows(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Where the right choices stand among the B * S sequences of a labelled batch: (B * problems,) int64, those of

        a question behind each other. They alone are told to a teacher: a wrong choice does not describe the picture.
        """
        count, choices = batch["question"].shape[:2]
        label = batch["label"]
        start = choices * torch.arange(count, device=label.device).unsqueeze(1)
        return (start + CHOICES * torch.arange(label.shape[1], device=label.device) + label).flatten()

    def teacher_inputs(self, records: Sequence[Commonsense]) -> list[Lesson]:
        """A lesson a problem, about its right choice; the texts of all four are what a teacher can be right about."""
        return [self._lesson(record, problem) for record in records for problem in self.problems(record)]

    def _lesson(self, record: Commonsense, problem: Problem) -> Lesson:
        if problem.label is None:
            raise DataError(f"question {record.annotation_id} has no label", fix="distil on a split with labels")
        places = tuple((int(begin), int(end)) for begin, end in self.reading(problem, problem.label).places)
        texts = tuple(problem.text(choice) for choice in range(CHOICES))
        return Lesson(record.image_id, problem.parts(problem.label), places, problem.label, texts)

    def reading(self, problem: Problem, choice: int) -> Reading:
        """How the model reads one choice: word pieces, and where each stands in `problem.text(choice)`."""
        return self._pieces().encode(problem, choice)

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over four choices, averaged over the questions and summed over the subtasks."""
        if "label" not in batch:
            raise DataError("a training question has no label", fix="train on a split whose questions have labels")
        scores = score_sequences(model, batch).logits.unflatten(1, (-1, CHOICES))
        labels = batch["label"]
        losses = functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        return losses.mean(dim=0).sum()

    @torch.no_grad()
    def predict(
        self, model: nn.Module, batch: Mapping[str, Tensor], records: Sequence[Commonsense]
    ) -> list[Prediction]:
        """Probabilities of the choices (softmax over four) in the official columns, and what they choose."""
        rounds = [_probabilities(model, batch)]
        if self.settings.subtask != "answer" and self.every_answer:
            for step in range(1, CHOICES):
                asked = [[rationale_problem(r, ((r.answer_label or 0) + step) % CHOICES)] for r in records]
                texts = draw_texts(asked, self._pieces())
                texts = {name: tensor.to(batch["question"].device) for name, tensor in texts.items()}
                rounds.append(_probabilities(model, {**batch, **texts}))
        return [self._prediction(record, [found[row] for found in rounds]) for row, record in enumerate(records)]

    def _prediction(self, record: Commonsense, rounds: Sequence[Sequence[list[float]]]) -> Prediction:
        """`rounds`: of each pass over the model its problems, of each problem four probabilities."""
        first = list(rounds[0])
        answer = () if self.settings.subtask == "rationale" else tuple(first.pop(0))
        given = record.answer_label or 0
        blocks = [*first, *(found[0] for found in rounds[1:])]
        rationales = {(given + step) % CHOICES: tuple(block) for step, block in enumerate(blocks)}
        values = columns_of(Said(answer, rationales))
        top = tuple((name, values[name]) for name in COLUMNS if name in values)
        if not answer:
            best = choice(rationales[given])
            return Prediction(record.annotation_id, record.image_id, str(best), rationales[given][best], top)
        best, confidence = choice(answer), max(answer)
        # Of the rationale the model would give itself, where it was asked for.
        own = rationales.get(best, ())
        confidence = confidence * max(own) if own else confidence
        return Prediction(record.annotation_id, record.image_id, str(best), confidence, top)

    def score(self, predictions: Sequence[Prediction], records: Sequence[Commonsense]) -> Scores:
        """Q->AR (or the one subtask that was asked) with intervals, and all of them as the breakdown `subtask`.

        Raises DataError on missing, unknown or double question ids and on questions without a label.
        """
        return score_predictions(predictions, records)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """Write the leaderboard's CSV. Raises DataError where a prediction lacks one of the 20 probabilities."""
        write_columns(predictions, path)

    def _pieces(self) -> PieceEncoder:
        if self._encoder is None:
            self._encoder = PieceEncoder(cast(WordPiece, self._words()), self.max_tokens)
        return self._encoder


def score_sequences(model: nn.Module, batch: Mapping[str, Tensor]) -> ClipVilPOutput:
    """What a model makes of a batch that `Vcr.collate` made; `logits` are (B, S)."""
    out: ClipVilPOutput = model(
        batch["question"],
        batch["length"],
        batch["cells"],
        batch.get("mask"),
        batch["shapes"],
        batch["picture"],
        segments=batch["segments"],
        tags=batch["tags"] if "boxes" in batch else None,
        boxes=batch.get("boxes"),
    )
    return out


def _probabilities(model: nn.Module, batch: Mapping[str, Tensor]) -> list[list[list[float]]]:
    """Of each question its problems, of each problem four probabilities."""
    found: list[list[list[float]]] = (
        score_sequences(model, batch).logits.float().unflatten(1, (-1, CHOICES)).softmax(dim=-1).tolist()
    )
    return found


def _sentences(records: Sequence[Commonsense], subtask: str) -> Iterator[str]:
    """Everything that the questions say, in words; what only a reader of rationales meets is left out for answers."""
    for record in records:
        asked = [answer_problem(record)] if subtask != "rationale" else []
        if subtask != "answer":
            asked.append(rationale_problem(record, record.answer_label or 0))
        for problem in asked:
            for part in (*problem.context, *problem.choices):
                yield part.text
