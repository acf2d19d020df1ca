"""Words of questions as numbers: the tokenizer and vocabulary of the published Pythia runs (MMF's simple tokenizer)."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.errors import DataError
from clipvil.files import atomic_write_json

if TYPE_CHECKING:
    from torch import Tensor

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
MAX_TOKENS = 14

_SEPARATORS = re.compile(r"(\W+)")


def tokenize(sentence: str) -> list[str]:
    """Lower-case and split on non-word characters, which stay as tokens; commas and question marks are deleted first.

    A possessive "'s" ends up as the two tokens "'" and "s" (as published).
    """
    text = sentence.lower().replace("'s", " 's").replace(",", "").replace("?", "")
    return [token for token in (part.strip() for part in _SEPARATORS.split(text)) if token]


class Vocabulary:
    """Words in a fixed order behind the four special rows pad 0, start 1, end 2 and unknown 3."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self._index = {word: place for place, word in enumerate((*SPECIAL, *self.words))}
        if len(self._index) != len(self.words) + len(SPECIAL):
            double = next(w for w, c in Counter((*SPECIAL, *self.words)).items() if c > 1)
            raise DataError(f"the word {double!r} stands twice in the vocabulary")

    @classmethod
    def build(cls, sentences: Iterable[str], *, min_count: int = 1) -> Vocabulary:
        """Every word seen at least `min_count` times, the most frequent first, equals in alphabetical order."""
        counts = Counter(token for sentence in sentences for token in tokenize(sentence))
        kept = [(word, count) for word, count in counts.items() if count >= min_count and word not in SPECIAL]
        return cls(word for word, _ in sorted(kept, key=lambda item: (-item[1], item[0])))

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read a vocabulary written by `save`, or a text file with one word a line (as MMF's are)."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the vocabulary ({error})", file=path) from None
        if path.suffix != ".json":
            lines = dict.fromkeys(line.strip() for line in text.split("\n"))
            return cls(word for word in lines if word and word not in SPECIAL)
        try:
            return cls.from_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise DataError(f"not a vocabulary ({error})", file=path) from None

    @classmethod
    def from_json(cls, value: Any) -> Vocabulary:
        """Take back what `to_json` returned. Raises DataError for anything else."""
        words = value.get("words") if isinstance(value, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError("a vocabulary must be an object with a list of strings under 'words'", field="words")
        return cls(words)

    def to_json(self) -> dict[str, Any]:
        """Plain values: the words without the special rows."""
        return {"words": list(self.words)}

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON, whole or not at all."""
        atomic_write_json(path, self.to_json())

    def __len__(self) -> int:
        """Rows of the word table, special rows included."""
        return len(self._index)

    def __getitem__(self, word: str) -> int:
        """The row of `word`; unknown words share row 3."""
        return self._index.get(word, UNKNOWN)

    def encode(self, sentence: str, max_tokens: int = MAX_TOKENS) -> tuple[list[int], int]:
        """Rows of the first `max_tokens` words, padded with 0 on the right, and how many are real.

        An empty sentence is one unknown word, so that no length is ever 0.
        """
        rows = [self[token] for token in tokenize(sentence)[:max_tokens]] or [UNKNOWN]
        return rows + [PAD] * (max_tokens - len(rows)), len(rows)


def word_vectors(vocabulary: Vocabulary, path: str | Path) -> Tensor:
    """The word table (len(vocabulary), dim) float32 from a text file of pretrained vectors (GloVe's format).

    As published: the special rows are the constants 0.0, 0.1, 0.2 and 0.3, and a word without a vector gets the
    unknown row. A first line of two integers (word2vec's header) is skipped. Raises DataError naming file and row.
    """
    import torch

    wanted = {word: row for row, word in enumerate(vocabulary.words, start=len(SPECIAL))}
    table: Tensor | None = None
    try:
        with Path(path).open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                word, _, rest = line.rstrip().partition(" ")
                if number == 1 and rest.isdigit():
                    continue
                if table is None:
                    table = torch.full((len(vocabulary), len(rest.split())), 0.3)
                    table[:START], table[START], table[END] = 0.0, 0.1, 0.2
                # Only wanted lines are taken apart: the files have millions. GloVe 840B has tokens with blanks in them,
                # which then look like a word with too many numbers; no question has such a token.
                if word in wanted and len(fields := rest.split()) <= table.shape[1]:
                    table[wanted[word]] = torch.tensor(_numbers(fields, table.shape[1], path, number))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the word vectors ({error})", file=path) from None
    if table is None or table.shape[1] == 0:
        raise DataError("holds no word vectors", file=path)
    return table


def _numbers(fields: Sequence[str], size: int, path: str | Path, row: int) -> list[float]:
    if len(fields) != size:
        raise DataError(f"{len(fields)} numbers, but the first row has {size}", file=path, row=row)
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise DataError(str(error), file=path, row=row) from None
    if not all(-1e30 < value < 1e30 for value in values):
        raise DataError("a vector with a value that is not a finite number", file=path, row=row)
    return values
