"""How a teacher's words and cells find the student's: by characters of the text and by places in the picture.

Never by index: tokenizers cut words differently, and grids have different sizes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

# Letters and digits with combining marks, and apostrophes inside: "don't" is one word, "[person1]" is person1.
_WORD = re.compile(r"[^\W_][\w\u0300-\u036f]*(?:['\u2019][^\W_][\w\u0300-\u036f]*)*")
_REST = re.compile(r"\S+")

STOP_WORDS = frozenset(
    word
    for line in (
        "a an the and or but if of at by for with about to from in on is are was were be been being am do does did has",
        "have had it its this that these those there he she they them his her their i you we as not no so than too",
        "very can will would should could what which who whom how when where why",
    )
    for word in line.split()
)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of a text begin and end, in characters; punctuation belongs to none."""
    return [match.span() for match in _WORD.finditer(text)]


def chunks(text: str) -> list[tuple[int, int, bool]]:
    """All of a text but its blanks, in order: words (True), and what stands between them."""
    found: list[tuple[int, int, bool]] = []
    place = 0
    for begin, end in [*word_spans(text), (len(text), len(text))]:
        found += [(place + m.start(), place + m.end(), False) for m in _REST.finditer(text[place:begin])]
        if end > begin:
            found.append((begin, end, True))
        place = end
    return found


def tokens_of_words(words: Sequence[tuple[int, int]], pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each word the range of tokens that share a character with it, (0, 0) where there is none (a cut text).

    `words` and `pieces` are (start, end) in characters of one text, both in its order; special tokens are empty.
    """
    found = []
    for begin, end in words:
        inside = [place for place, (start, stop) in enumerate(pieces) if start < stop and start < end and stop > begin]
        found.append((inside[0], inside[-1] + 1) if inside else (0, 0))
    return found


def cell_boxes(rows: int, columns: int) -> Tensor:
    """The boxes (N, 4) of a grid's cells, row by row, as shares of its canvas: x1, y1, x2, y2."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    corner = torch.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], dim=-1)
    return corner.reshape(-1, 4)


def pooling(boxes: Tensor, rows: int, columns: int) -> Tensor:
    """How a grid is averaged over boxes: weights (..., R, rows * columns) for boxes (..., R, 4), each row summing to 1.

    A cell counts by the share of the box that it covers; a box without extent takes the cell that it lies in.
    """
    least = 1e-6
    low = boxes[..., :2].clamp(0, 1 - least)
    high = torch.maximum(boxes[..., 2:].clamp(0, 1), low + least)

    def along(begin: Tensor, end: Tensor, count: int) -> Tensor:
        edges = torch.arange(count + 1, dtype=boxes.dtype, device=boxes.device) / count
        return (torch.minimum(end[..., None], edges[1:]) - torch.maximum(begin[..., None], edges[:-1])).clamp(min=0)

    across, down = along(low[..., 0], high[..., 0], columns), along(low[..., 1], high[..., 1], rows)
    weights = (down[..., :, None] * across[..., None, :]).flatten(-2)
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
