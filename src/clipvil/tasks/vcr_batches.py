"""VCR batches: every choice as a sequence of word pieces, with its tags marked and the boxes of the tagged objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipvil.errors import DataError
from clipvil.features.base import frames_of
from clipvil.records import Commonsense
from clipvil.text.tags import NO_OBJECT, Spoken, names_of, relevant, spoken

if TYPE_CHECKING:
    from clipvil.features.base import FeatureSource
    from clipvil.text.wordpiece import WordPiece


@dataclass(frozen=True)
class Problem:
    """Four choices to one context: a question, or a question with an answer.

    `label` is the right choice, None where it is not known.
    """

    context: tuple[Spoken, ...]
    choices: tuple[Spoken, ...]
    label: int | None

    def parts(self, choice: int) -> tuple[str, ...]:
        """Context and one choice as texts, each but the last with a space behind it: together they are `text`."""
        said = (*self.context, self.choices[choice])
        return tuple(one.text + " " * (place < len(said) - 1) for place, one in enumerate(said))

    def text(self, choice: int) -> str:
        """Context and one choice as one text: what a teacher reads."""
        return "".join(self.parts(choice))


def answer_problem(record: Commonsense) -> Problem:
    """Question -> answer. Names are given out as the released reader does, over the question and its answers."""
    names = names_of(record.objects, relevant(record.objects, (record.question, *record.answers)))
    context = (spoken(record.question, names),)
    return Problem(context, tuple(spoken(one, names) for one in record.answers), record.answer_label)


def rationale_problem(record: Commonsense, answer: int) -> Problem:
    """Question and one answer -> rationale.

    Raises DataError where the question has no rationales.
    """
    if not record.rationales:
        raise DataError(f"question {record.annotation_id} has no rationales", fix="set task_settings.subtask to answer")
    said = (record.question, record.answers[answer])
    names = names_of(record.objects, relevant(record.objects, (*said, *record.rationales)))
    choices = tuple(spoken(one, names) for one in record.rationales)
    return Problem(tuple(spoken(one, names) for one in said), choices, record.rationale_label)


@dataclass(frozen=True)
class Reading:
    """A sequence of word pieces: rows, objects (`NO_OBJECT`: none), segments (0 the context, 1 the choice), and places:

    of each piece its first character and the one behind in `Problem.text`, (0, 0) for special ones.
    """

    rows: list[int]
    objects: list[int]
    segments: list[int]
    places: list[tuple[int, int]]


@dataclass
class PieceEncoder:
    """Sequences of word pieces, `[CLS] context [SEP] ... choice [SEP]`, with what each piece names; remembers words."""

    words: WordPiece
    max_tokens: int
    known: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)

    def encode(self, problem: Problem, choice: int) -> Reading:
        """The sequence of one choice. What is too long loses pieces at the end of its longest part, one by one.

        Raises DataError where `max_tokens` leave no room for a piece of each part.
        """
        parts, start = [], 0
        for said in (*problem.context, problem.choices[choice]):
            parts.append(self._pieces(said, start))
            start += len(said.text) + 1
        room = self.max_tokens - 1 - len(parts)
        if room < len(parts):
            raise DataError(f"max_tokens {self.max_tokens} leaves no room for {len(parts)} sentences")
        while sum(map(len, parts)) > room:
            max(parts, key=len).pop()
        found = Reading([self.words.cls], [NO_OBJECT], [0], [(0, 0)])
        for number, part in enumerate(parts):
            found.rows.extend([*(row for row, _, _ in part), self.words.sep])
            found.objects.extend([*(thing for _, thing, _ in part), NO_OBJECT])
            found.segments.extend([int(number == len(parts) - 1)] * (len(part) + 1))
            found.places.extend([*(place for _, _, place in part), (0, 0)])
        return found

    def _pieces(self, said: Spoken, start: int) -> list[tuple[int, int, tuple[int, int]]]:
        """Row, object and place of each piece of a sentence whose first character is number `start`."""
        out = []
        for word, thing in zip(said.words, said.objects, strict=True):
            pieces = self.known.get(word)
            if pieces is None:
                pieces = self.known[word] = self.words.located(word)
            out += [(row, thing, (start + first, start + behind)) for row, first, behind in pieces]
            start += len(word) + 1
        return out


def draw_texts(problems: Sequence[Sequence[Problem]], encoder: PieceEncoder) -> dict[str, Tensor]:
    """The sequences of B questions with as many problems each, S = 4 x problems in their order.

    question, tags and segments (B, S, T) int64 and length (B, S): see `ClipVilPChoices.forward`.
    """
    sequences = [
        [encoder.encode(problem, choice) for problem in asked for choice in range(len(problem.choices))]
        for asked in problems
    ]
    width = max(len(one.rows) for asked in sequences for one in asked)

    def padded(part: str, extra: int = 0) -> Tensor:
        rows = [
            [[v + extra for v in getattr(one, part)] + [0] * (width - len(one.rows)) for one in asked]
            for asked in sequences
        ]
        return torch.tensor(rows, dtype=torch.int64)

    length = torch.tensor([[len(one.rows) for one in asked] for asked in sequences])
    return {
        "question": padded("rows"),
        "tags": padded("objects", -NO_OBJECT),
        "segments": padded("segments"),
        "length": length,
    }


def draw_up(
    records: Sequence[Commonsense],
    problems: Sequence[Sequence[Problem]],
    encoder: PieceEncoder,
    features: FeatureSource,
    *,
    tie: bool,
) -> dict[str, Tensor]:
    """One batch of B questions with as many problems each about P distinct pictures: `draw_texts`, and

    boxes (B, O, 4) float32 where tags are tied; picture (B,), cells (P, N, C), shapes (P, 2) and, where shapes differ,
    mask (P, N). With labels for all: label (B, problems) int64, where the sequences of problem p are 4p to 4p + 3.
    """
    rows: dict[str, int] = {}
    picture = [rows.setdefault(record.image_id, len(rows)) for record in records]
    grids = features.batch(list(rows))
    batch = {**draw_texts(problems, encoder), "picture": torch.tensor(picture)}
    batch |= {"cells": grids.cells, "shapes": grids.shapes}
    if grids.mask is not None:
        batch["mask"] = grids.mask
    if tie:
        batch["boxes"] = grid_boxes(records, frames_of(features, list(rows))[picture])
    labels = [[problem.label for problem in asked] for asked in problems]
    if all(record.answer_label is not None for record in records) and all(None not in asked for asked in labels):
        batch["label"] = torch.tensor(labels, dtype=torch.int64)
    return batch


def grid_boxes(records: Sequence[Commonsense], frames: Tensor) -> Tensor:
    """The boxes of each question's objects as shares of its grid (B, O, 4), where pictures lie as `frames` (B, 4) say.

    Raises DataError for a question without boxes, and for one whose picture's size is not known.
    """
    out = torch.zeros(len(records), max(1, *(len(record.boxes) for record in records)), 4)
    for row, record in enumerate(records):
        if len(record.boxes) != len(record.objects) or record.size is None:
            what = "boxes" if len(record.boxes) != len(record.objects) else "width and height in its metadata"
            raise DataError(
                f"question {record.annotation_id} has no {what}, to which its tags are to be tied",
                fix="give the metadata, or set task_settings.tie to false",
            )
        if record.boxes:
            shares = torch.tensor(record.boxes) / torch.tensor(record.size).repeat(2)
            start = frames[row, :2].repeat(2)
            out[row, : len(record.boxes)] = start + shares.clamp(0, 1) * (frames[row, 2:].repeat(2) - start)
    return out
