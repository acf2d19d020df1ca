"""Words of captions as numbers, as the published captioner has them: 0 is start, end and padding, unknown is last.

The published rule for COCO (Karpathy's file, whose tokens are used): words are counted over all splits, those that come
more than five times are kept, in order of appearance, and all others share one last row.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clipvil.errors import DataError
from clipvil.files import atomic_write_json
from clipvil.records import Caption
from clipvil.text.ptb import tokenize

END = 0
UNKNOWN = "UNK"
PUBLISHED_MIN_COUNT = 6
PUBLISHED_MAX_LENGTH = 16


def caption_words(records: Sequence[Caption]) -> list[tuple[str, ...]]:
    """The words of each caption: the corpus's own tokens, or the metrics' tokens where it has none."""
    tokenised = iter(tokenize([record.caption for record in records if not record.tokens], mode="alone"))
    return [record.tokens or tuple(next(tokenised).split()) for record in records]


class CaptionVocabulary:
    """Words in a fixed order from row 1 on; row 0 is start, end and padding. `unknown` is the last row, or None."""

    def __init__(self, words: Iterable[str], *, unknown: bool = True) -> None:
        self.words = tuple(words)
        rows = (*self.words, UNKNOWN) if unknown else self.words
        self._index = {word: row for row, word in enumerate(rows, start=1)}
        if len(self._index) != len(rows):
            double = next(word for word, count in Counter(rows).items() if count > 1)
            raise DataError(f"the word {double!r} stands twice in the vocabulary")
        self.unknown = len(rows) if unknown else None

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], *, min_count: int = PUBLISHED_MIN_COUNT) -> CaptionVocabulary:
        """Words that come at least `min_count` times, in order of appearance; unknown only if any word is left out."""
        counts = Counter(word for caption in captions for word in caption)
        kept = [word for word, count in counts.items() if count >= min_count and word != UNKNOWN]
        return cls(kept, unknown=len(kept) < len(counts))

    def __len__(self) -> int:
        """Rows of the word table, row 0 included."""
        return len(self._index) + 1

    def fingerprint(self) -> str:
        """A hash (hex, 16 digits) of the words in their order."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode("ascii")).hexdigest()[:16]

    def encode(self, words: Sequence[str], max_length: int | None = None) -> list[int]:
        """Rows of the first `max_length` words, without an end. Unknown words are dropped where no row is theirs."""
        rows = (self._index.get(word, self.unknown) for word in words[:max_length])
        return [row for row in rows if row is not None]

    def decode(self, rows: Iterable[int]) -> str:
        """The words up to the first 0, with blanks between. Raises DataError for a row that does not exist."""
        out = []
        for row in rows:
            if row == END:
                break
            if not 0 < row < len(self):
                raise DataError(f"there is no word {row} among {len(self)}")
            out.append(self.words[row - 1] if row <= len(self.words) else UNKNOWN)
        return " ".join(out)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"words": list(self.words), "unknown": self.unknown is not None}

    @classmethod
    def from_json(cls, value: Any, *, file: str | Path | None = None) -> CaptionVocabulary:
        """Take back what `to_json` returned, or the published JSON (`ix_to_word` from "1" on, "UNK" last).

        Raises DataError for anything else.
        """
        if isinstance(value, dict) and "ix_to_word" in value:
            value = _published(value["ix_to_word"], file)
        words = value.get("words") if isinstance(value, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError("a vocabulary must be an object with a list of strings under 'words'", file=file)
        unknown = value.get("unknown", True)
        if not isinstance(unknown, bool):
            raise DataError("must be true or false", file=file, field="unknown")
        return cls(words, unknown=unknown)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON, whole or not at all."""
        atomic_write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> CaptionVocabulary:
        """Read what `save` wrote, or the published JSON. Raises DataError for anything else."""
        try:
            value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"cannot read the vocabulary ({error})", file=path) from None
        return cls.from_json(value, file=path)


def _published(table: Any, file: str | Path | None) -> dict[str, Any]:
    """What `to_json` would give of the published `ix_to_word`, an object of words by their row."""
    rows = [str(row) for row in range(1, len(table) + 1)] if isinstance(table, dict) else []
    if not rows or table.keys() != set(rows):
        raise DataError('must be an object of words under the keys "1", "2", ...', file=file, field="ix_to_word")
    words = [table[row] for row in rows]
    if UNKNOWN in words[:-1]:
        raise DataError(f"{UNKNOWN} must be the last word", file=file, field="ix_to_word")
    unknown = words[-1] == UNKNOWN
    return {"words": words[:-1] if unknown else words, "unknown": unknown}
