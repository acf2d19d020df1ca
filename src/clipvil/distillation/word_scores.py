"""How relevant each word of a text is to the picture, by a teacher that holds pictures against texts (T1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from clipvil.distillation.alignment import word_spans
from clipvil.distillation.cache import TextCache
from clipvil.distillation.text_teachers import PROMPT, TextTeacher

_AT_ONCE = 2**16


@dataclass
class Keeping:
    """Where and how what a teacher reads is kept; `read` counts what it had to read."""

    folder: Path | None
    dtype: str
    quiet: bool
    read: int = 0
    seconds: float = 0.0

    def cache(self, teacher: TextTeacher, texts: Sequence[tuple[str, ...]]) -> TextCache:
        """The texts, from the cache or read now."""
        found = TextCache(teacher, self.folder, texts, self.dtype, self.quiet)
        self.read, self.seconds = self.read + found.read, self.seconds + found.seconds
        return found


class Words(Protocol):
    """Where the words of distinct texts stand: of text i `counts[i]` from `begins[i]` on."""

    counts: Tensor
    begins: Tensor


def word_vectors(
    teacher: TextTeacher, texts: Sequence[tuple[str, ...]], kind: str, keep: Keeping
) -> tuple[Tensor, Tensor]:
    """Vectors (V, D) that words are judged by, and which of them each word of each text has, (W,).

    `alone`: "a photo of {word}", once a distinct word. `leave_one_out`: the text without the word.
    """
    asked: list[tuple[str, ...]] = []
    for parts in texts:
        for number, part in enumerate(parts):
            for begin, end in word_spans(part):
                if kind == "alone":
                    asked.append((PROMPT.format(part[begin:end].lower()),))
                else:
                    asked.append((*parts[:number], part[:begin] + part[end:], *parts[number + 1 :]))
    distinct = list(dict.fromkeys(asked))
    places = {text: place for place, text in enumerate(distinct)}
    said = keep.cache(teacher, distinct) if distinct else None
    vectors = torch.zeros(0, teacher.channels) if said is None else said.vectors[said.rows].float()
    return functional.normalize(vectors, dim=1), torch.tensor([places[text] for text in asked], dtype=torch.int64)


def word_scores(
    vectors: Tensor, of_word: Tensor, pictures: Tensor, text: Tensor, image: Tensor, words: Words, kind: str
) -> Tensor:
    """Scores of all words of all lessons, behind each other.

    vectors (V, D) and of_word (W,) as of `word_vectors` of that kind; pictures (P, D); text and image (L,) of each
    lesson. Of a text without a word the cosine counts negatively: what the whole text has above it differs by one
    number a lesson, which changes neither order nor softmax.
    """
    pictures = functional.normalize(pictures, dim=1)
    counts = words.counts[text]
    lesson = torch.repeat_interleave(torch.arange(len(text)), counts)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    word = words.begins[text[lesson]] + torch.arange(len(lesson)) - first
    out = torch.empty(len(lesson))
    for start in range(0, len(lesson), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        out[part] = (vectors[of_word[word[part]]] * pictures[image[lesson[part]]]).sum(1)
    return out if kind == "alone" else -out
