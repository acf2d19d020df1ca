"""All training lessons with what the teachers say of them, and their batches: tensors in, tensors out.

What does not change while the student learns is worked out once: which tokens of the student are which word, how
relevant words are, how far an example is trusted. A batch is then gathered without a loop over its examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from clipvil.distillation.alignment import STOP_WORDS, cell_boxes, pooling, tokens_of_words
from clipvil.distillation.cache import TextCache
from clipvil.distillation.picture_cells import PictureCells
from clipvil.distillation.selection import Selected, noise, select
from clipvil.distillation.settings import DistillationChoice
from clipvil.distillation.teachers import Teacher, cells_of, pooled_target, relevant
from clipvil.distillation.text_teachers import part_spans
from clipvil.distillation.trust import Trust
from clipvil.distillation.word_scores import Keeping, word_scores, word_vectors
from clipvil.errors import DataError, RecipeError
from clipvil.tasks.lessons import Lesson

PREFIX = "teach."


@dataclass(frozen=True)
class StudentCells:
    """The cells that the student reads of each lesson's picture: shapes (L, 2), or boxes (L, N, 4); mask (L, N)."""

    shapes: Tensor
    boxes: Tensor | None = None
    mask: Tensor | None = None


class Curriculum:
    """Lessons by number. `batch` may be called in forked workers."""

    def __init__(
        self,
        lessons: Sequence[Lesson],
        teachers: Sequence[Teacher],
        choice: DistillationChoice,
        *,
        cache: Path | None = None,
        dtype: str = "float16",
        seed: int = 0,
        quiet: bool = True,
    ) -> None:
        """One pass of the teachers over texts that the cache has not, then everything that can be known beforehand.

        Raises RecipeError where a teacher that the settings need is not there, StoreError for damaged files.
        """
        self.choice, self.teachers, self.seed = choice, tuple(teachers), seed
        self.judge = relevant(teachers)
        _check(choice, self.teachers, self.judge)
        texts = list(dict.fromkeys(lesson.parts for lesson in lessons))
        numbers = {parts: number for number, parts in enumerate(texts)}
        self.text = torch.tensor([numbers[lesson.parts] for lesson in lessons])
        self.said = [
            TextCache(teacher.texts, cache, texts, dtype, quiet) if teacher.texts is not None else None
            for teacher in self.teachers
        ]
        images = list(dict.fromkeys(lesson.image_id for lesson in lessons))
        places = {image: place for place, image in enumerate(images)}
        self.image = torch.tensor([places[lesson.image_id] for lesson in lessons])
        self.cells = [
            PictureCells(teacher.pictures, images) if teacher.pictures is not None else None
            for teacher in self.teachers
        ]
        self._place_words(lessons, texts)
        if "text" in choice.terms.places and not len(self.usable):
            raise DataError("no training text has a word", fix="set distillation.terms.text to 0")
        self.standard = self._standards() if choice.targets.standardise else {}
        self.judged = judge = None if self.judge is None else self.teachers.index(self.judge)
        keep = Keeping(cache, dtype, quiet)
        self.word_scores: Tensor | None = None
        if judge is not None and choice.selection.text == "relevance" and "text" in choice.terms.places:
            self.word_scores = self._word_scores(texts, keep)
        self.trust = Trust(lessons, self, keep)
        passes = [said for said in self.said if said is not None]
        self.read = keep.read + sum(said.read for said in passes)
        """How many texts the teachers had to read; the others were in the cache."""
        self.read_seconds = keep.seconds + sum(said.seconds for said in passes)
        self.partner = _partners(len(lessons), seed) if choice.shuffled else None

    def __len__(self) -> int:
        return len(self.text)

    @property
    def judging(self) -> tuple[Teacher, TextCache, PictureCells]:
        """The teacher that holds pictures against texts, with what it said. Raises RecipeError where there is none."""
        said = None if self.judged is None else self.said[self.judged]
        cells = None if self.judged is None else self.cells[self.judged]
        if self.judge is None or said is None or cells is None:
            raise RecipeError(
                f"'distillation.confidence' {self.choice.confidence} holds pictures against texts, which none of the "
                "teachers can; name one with both towers, or set it to constant"
            )
        return self.judge, said, cells

    def _word_scores(self, texts: Sequence[tuple[str, ...]], keep: Keeping) -> Tensor:
        """How relevant each word of each lesson is to its picture: (words of all lessons,)."""
        teacher, _, cells = self.judging
        assert teacher.texts is not None
        pictures = cells.pooled(torch.arange(len(cells.images)))
        if pictures is None:
            raise RecipeError(f"the features of {teacher.name} were stored without pooled vectors; extract them again")
        kind = self.choice.selection.word_score
        vectors, of_word = word_vectors(teacher.texts, texts, kind, keep)
        return word_scores(vectors, of_word, pictures, self.text, self.image, self, kind)

    def widths(self) -> list[dict[str, int]]:
        """Of each teacher the channels of what it says for each place that is distilled."""
        found = []
        for teacher, cells in zip(self.teachers, self.cells, strict=True):
            own: dict[str, int] = {}
            places = self.choice.terms.places
            texts = teacher.texts
            if "pooled" in places:
                picture = None if cells is None or cells.pooled_channels is None else cells.pooled_channels
                text = None if texts is None else texts.channels
                both = picture is not None and text is not None and self.choice.targets.pooled == "concat"
                width = (picture or 0) + (text or 0) if both else picture or text or 0
                if width:
                    own["pooled"] = width
            if "text" in places and texts is not None:
                own["text"] = texts.channels
            if "vision" in places and cells is not None:
                probe = torch.zeros(1, cells.channels)
                own["vision"] = cells_of(teacher, probe, self.choice.targets.cells).shape[1]
            found.append(own)
        return found

    def batch(self, numbers: Tensor, step: int, cells: StudentCells | None) -> dict[str, Tensor]:
        """What the loss of these lessons (L,) needs, by names that begin with `teach.`; see `mad.distillation_loss`.

        words (L, k, T) weights of the student's tokens in each selected word, words.share (L, k); cells (L, k) places
        and cells.share (L, k); weight (L,), gold (L,); and of each teacher t the targets t.pooled (L, D),
        t.text (L, k, D), t.vision (L, k, D).
        """
        places = self.choice.terms.places
        taught = numbers if self.partner is None else self.partner[numbers]
        out = {"weight": self.trust.weights(taught)}
        if self.trust.gold is not None:
            out["gold"] = self.trust.gold[numbers]
        if "text" in places:
            self._words(out, numbers, taught, step)
        if "vision" in places:
            if cells is None:
                raise RecipeError("'distillation.terms.vision' needs the student's cells; set it to 0")
            self._cells(out, numbers, taught, step, cells)
        if "pooled" in places:
            self._pooled(out, taught)
        return {PREFIX + name: value for name, value in out.items()}

    def _pooled(self, out: dict[str, Tensor], taught: Tensor) -> None:
        for place, (cells, said) in enumerate(zip(self.cells, self.said, strict=True)):
            picture = None if cells is None else cells.pooled(self.image[taught])
            text = None if said is None else said.vectors[said.rows[self.text[taught]]].float()
            if picture is not None or text is not None:
                out[f"{place}.pooled"] = pooled_target(picture, text, self.choice.targets.pooled)

    def _words(self, out: dict[str, Tensor], numbers: Tensor, taught: Tensor, step: int) -> None:
        text = self.text[numbers]
        counts = self.counts[text]
        width = max(int(counts.max()), 1)
        column = torch.arange(width)
        index = (self.begins[text][:, None] + column).clamp(max=max(len(self.token_begin) - 1, 0))
        present = column < counts[:, None]
        valid = present & self.usable[index]
        # In the shuffled control the words are another example's: its n-th for the n-th, from the start again.
        theirs = self.text[taught]
        other = column % self.counts[theirs].clamp(min=1)[:, None]
        valid &= self.counts[theirs][:, None] > 0
        scores = None
        if self.word_scores is not None:
            lesson = self.score_begins[taught][:, None] + other
            scores = self.word_scores[lesson.clamp(max=max(len(self.word_scores) - 1, 0))]
        chosen = self._select(scores, valid, self.choice.selection.text, numbers, step, 1)
        picked = index.gather(1, chosen.places)
        begin, end = self.token_begin[picked], self.token_end[picked]
        token = torch.arange(max(int(end.max()), 1) if end.numel() else 1)
        inside = (token >= begin[..., None]) & (token < end[..., None])
        out["words"] = inside.float() / (end - begin).clamp(min=1)[..., None]
        out["words.share"] = chosen.shares
        at = other.gather(1, chosen.places)
        for place, said in enumerate(self.said):
            if said is not None:
                row = (said.begins[theirs][:, None] + at).clamp(max=max(len(said.words) - 1, 0))
                out[f"{place}.text"] = self._standard((place, "text"), said.words[row].float())

    def _cells(self, out: dict[str, Tensor], numbers: Tensor, taught: Tensor, step: int, student: StudentCells) -> None:
        brought = [
            None if cells is None else self._brought(place, cells, taught, student)
            for place, cells in enumerate(self.cells)
        ]
        first = next(cells for cells in brought if cells is not None)
        valid = torch.ones(first.shape[:2], dtype=torch.bool) if student.mask is None else student.mask
        scores = None
        if self.judged is not None and self.choice.selection.vision == "relevance":
            said, seen = self.said[self.judged], self.cells[self.judged]
            assert said is not None and seen is not None and self.judge is not None
            text = functional.normalize(said.vectors[said.rows[self.text[taught]]].float(), dim=1)
            kind, mine = self.choice.targets.cells, brought[self.judged]
            if kind != "joint" or self.choice.targets.standardise:
                mine = self._brought(self.judged, seen, taught, student, "joint")
            assert mine is not None
            scores = torch.einsum("lnd,ld->ln", functional.normalize(mine, dim=2), text)
        chosen = self._select(scores, valid, self.choice.selection.vision, numbers, step, 2)
        out["cells"], out["cells.share"] = chosen.places, chosen.shares
        for place, cells in enumerate(brought):
            if cells is not None:
                out[f"{place}.vision"] = cells.gather(1, chosen.places[..., None].expand(-1, -1, cells.shape[2]))

    def _brought(
        self, place: int, cells: PictureCells, taught: Tensor, student: StudentCells, kind: str | None = None
    ) -> Tensor:
        """A teacher's cells as the student's: (L, N, D), averaged over what each cell of the student covers."""
        teacher = self.teachers[place]
        wanted = kind or self.choice.targets.cells
        values, shapes = cells.at(self.image[taught], wanted, lambda raw: cells_of(teacher, raw, wanted))
        if kind is None:
            values = self._standard((place, "vision"), values)
        if student.boxes is not None:
            maps = [
                pooling(boxes, int(h), int(w)) for boxes, (h, w) in zip(student.boxes, shapes.tolist(), strict=True)
            ]
            return torch.stack([m @ v[: m.shape[1]] for m, v in zip(maps, values, strict=True)])
        both = torch.cat([student.shapes, shapes], dim=1)
        kinds, which = both.unique(dim=0, return_inverse=True)
        if len(kinds) == 1:
            return _resampled(values, *kinds[0].tolist())
        longest = int(student.shapes.prod(1).max())
        out = values.new_zeros(len(values), longest, values.shape[2])
        for number, one in enumerate(kinds.tolist()):
            rows = (which == number).nonzero()[:, 0]
            found = _resampled(values[rows], *one)
            out[rows, : found.shape[1]] = found
        return out

    def _select(
        self, scores: Tensor | None, valid: Tensor, kind: str, numbers: Tensor, step: int, salt: int
    ) -> Selected:
        choice = self.choice.selection
        drawn = None
        if kind == "random" or choice.policy == "sample":
            drawn = noise(numbers, valid.shape[1], self.seed, step, salt)
        return select(scores, valid, choice, kind, drawn)

    def _standard(self, key: tuple[int, str], values: Tensor) -> Tensor:
        found = self.standard.get(key)
        return values if found is None else (values - found[0]) / found[1]

    def _standards(self) -> dict[tuple[int, str], tuple[Tensor, Tensor]]:
        """Mean and spread of every channel of each teacher's words and cells, over the training set."""
        out = {}
        for place, (said, cells) in enumerate(zip(self.said, self.cells, strict=True)):
            if said is not None and "text" in self.choice.terms.places:
                words = said.words[said.known.bool()].float()
                out[place, "text"] = (words.mean(0), words.std(0, correction=0).clamp(min=1e-6))
            if cells is not None and "vision" in self.choice.terms.places:
                teacher = self.teachers[place]
                out[place, "vision"] = cells.moments(partial(cells_of, teacher, kind=self.choice.targets.cells))
        return out

    def _place_words(self, lessons: Sequence[Lesson], texts: Sequence[tuple[str, ...]]) -> None:
        """Which tokens of the student each word is, for each distinct text; and which words may be selected."""
        pieces = {lesson.parts: lesson.pieces for lesson in lessons}
        begins, ends, usable, counts = [], [], [], []
        for parts in texts:
            whole, spans = "".join(parts), part_spans(parts)
            ranges = tokens_of_words(spans, pieces[parts])
            plain = [whole[a:b].lower() not in STOP_WORDS for a, b in spans]
            seen = [end > 0 for _, end in ranges]
            content = [a and b for a, b in zip(plain, seen, strict=True)]
            # A text of stop words alone is better than none.
            usable += seen if self.choice.selection.stop_words or not any(content) else content
            begins += [begin for begin, _ in ranges]
            ends += [end for _, end in ranges]
            counts.append(len(spans))
        self.counts = torch.tensor(counts)
        self.begins = self.counts.cumsum(0) - self.counts
        self.token_begin = torch.tensor(begins, dtype=torch.int64)
        self.token_end = torch.tensor(ends, dtype=torch.int64)
        self.usable = torch.tensor(usable, dtype=torch.bool)
        for said in self.said:
            if said is not None and len(self.usable):
                own = torch.repeat_interleave(said.begins - self.begins, self.counts) + torch.arange(len(self.usable))
                self.usable &= said.known[own].bool()
        each = self.counts[self.text]
        self.score_begins = each.cumsum(0) - each


def _check(choice: DistillationChoice, teachers: Sequence[Teacher], judge: Teacher | None) -> None:
    """See that there is who says what is to be matched. Raises RecipeError."""
    places, selection = choice.terms.places, choice.selection
    if "text" in places and not any(teacher.texts is not None for teacher in teachers):
        raise RecipeError(
            "'distillation.terms.text' needs a teacher that reads texts; set text: true, or the term to 0"
        )
    if "vision" in places and not any(teacher.pictures is not None for teacher in teachers):
        raise RecipeError("'distillation.terms.vision' needs a teacher that sees pictures; set the term to 0")
    if selection.policy == "all":
        return
    help = "name a teacher with both towers, or another selection (random, uniform)"
    for kind, place in ((selection.text, "text"), (selection.vision, "vision")):
        if kind == "relevance" and place in places:
            if judge is None:
                raise RecipeError(
                    f"'distillation.selection.{place}' relevance holds pictures against texts, which none of the "
                    f"teachers can; {help}"
                )
            if place == "vision" and judge.joint is None:
                raise RecipeError(
                    f"'distillation.selection.vision' relevance: how the cells of {judge.name} reach the space of its "
                    f"texts is not known; {help}"
                )


def _resampled(values: Tensor, rows: int, columns: int, their_rows: int, their_columns: int) -> Tensor:
    values = values[:, : their_rows * their_columns]
    if (rows, columns) == (their_rows, their_columns):
        return values
    return pooling(cell_boxes(rows, columns), their_rows, their_columns) @ values


def _partners(count: int, seed: int) -> Tensor:
    """For each lesson another one, each once: a circle through all of them in random order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    out = torch.empty_like(order)
    out[order] = order.roll(1)
    return out
