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

    def texts(self) -> list[Spoken]:
        """Context and choice in words, one for each choice: what a teacher reads."""
        whole = self.context[0]
        for part in self.context[1:]:
            whole = whole + part
        return [whole + choice for choice in self.choices]


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


@dataclass
class PieceEncoder:
    """Sequences of word pieces, `[CLS] context [SEP] ... choice [SEP]`, with what each piece names; remembers words."""

    words: WordPiece
    max_tokens: int
    known: dict[str, list[int]] = field(default_factory=dict)

    def encode(self, context: Sequence[Spoken], choice: Spoken) -> tuple[list[int], list[int], list[int]]:
        """Rows, objects (`NO_OBJECT`: none) and segments (0 the context, 1 the choice) of one sequence.

        What is too long loses pieces at the end of its longest part, one by one.
        """
        parts = [self._pieces(one) for one in (*context, choice)]
        room = self.max_tokens - 1 - len(parts)
        if room < len(parts):
            raise DataError(f"max_tokens {self.max_tokens} leaves no room for {len(parts)} sentences")
        while sum(map(len, parts)) > room:
            max(parts, key=len).pop()
        rows, objects, segments = [self.words.cls], [NO_OBJECT], [0]
        for place, part in enumerate(parts):
            segment = int(place == len(parts) - 1)
            rows += [row for row, _ in part] + [self.words.sep]
            objects += [thing for _, thing in part] + [NO_OBJECT]
            segments += [segment] * (len(part) + 1)
        return rows, objects, segments

    def _pieces(self, said: Spoken) -> list[tuple[int, int]]:
        out = []
        for word, thing in zip(said.words, said.objects, strict=True):
            rows = self.known.get(word)
            if rows is None:
                rows = self.known[word] = [self.words[piece] for piece in self.words.tokenize(word)]
            out += [(row, thing) for row in rows]
        return out


def draw_texts(problems: Sequence[Sequence[Problem]], encoder: PieceEncoder) -> dict[str, Tensor]:
    """The sequences of B questions with as many problems each, S = 4 x problems in their order.

    question, tags and segments (B, S, T) int64 and length (B, S): see `ClipVilPChoices.forward`.
    """
    sequences = [
        [encoder.encode(problem.context, choice) for problem in asked for choice in problem.choices]
        for asked in problems
    ]
    width = max(len(found[0]) for asked in sequences for found in asked)

    def padded(part: int, extra: int = 0) -> Tensor:
        rows = [[[v + extra for v in f[part]] + [0] * (width - len(f[part])) for f in asked] for asked in sequences]
        return torch.tensor(rows, dtype=torch.int64)

    length = torch.tensor([[len(found[0]) for found in asked] for asked in sequences])
    return {"question": padded(0), "tags": padded(1, -NO_OBJECT), "segments": padded(2), "length": length}


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
