"""Words of navigation instructions as numbers: the splitter and the vocabulary of R2R's agents.

Source: R2R's agents (Matterport3DSimulator @ 589d091, taken over by EnvDrop and CLIP-ViL): padding is 0, unknown words
1, the end 2, then the words by falling count, and the begin word gets the last id at run time.
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from clipvil.errors import DataError
from clipvil.files import atomic_write

PAD, UNKNOWN, END = 0, 1, 2
SPECIAL = ("<PAD>", "<UNK>", "<EOS>")
BEGIN = "<BOS>"
MIN_COUNT = 5
_SPLIT = re.compile(r"(\W+)")
_PUNCTUATION = frozenset(string.punctuation)


@cache
def _split_beside_marks() -> re.Pattern[str]:
    marks = "".join(letter for letter in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(letter)[0] == "M")
    return re.compile(f"([^\\w{marks}\u200c\u200d]+)")


def split_instruction(sentence: str, *, marks: bool = False) -> list[str]:
    """Lower-case tokens; runs of punctuation are taken apart, but for runs of dots.

    The published splitter takes combining marks for punctuation and so tears the words of Hindi and Telugu at every
    vowel sign; with `marks` they, and the joiners between letters, belong to words.
    """
    out: list[str] = []
    for part in (_split_beside_marks() if marks else _SPLIT).split(sentence.strip()):
        token = part.strip().lower()
        if not token:
            continue
        if _PUNCTUATION.issuperset(token) and set(token) != {"."}:
            out += token
        else:
            out.append(token)
    return out


class InstructionVocabulary:
    """Words in a fixed order behind the three special ones; the begin word comes after the last."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self._index = {word: place for place, word in enumerate((*SPECIAL, *self.words, BEGIN))}
        if len(self._index) != len(self.words) + len(SPECIAL) + 1:
            double = next(word for word, n in Counter((*SPECIAL, *self.words, BEGIN)).items() if n > 1)
            raise DataError(f"the word {double!r} stands twice in the vocabulary")

    @classmethod
    def build(cls, sentences: Iterable[Sequence[str]], *, min_count: int = MIN_COUNT) -> InstructionVocabulary:
        """From split sentences: words seen `min_count` times or more, the most frequent first, equals as first seen."""
        counts = Counter(word for words in sentences for word in words)
        return cls(word for word, count in counts.most_common() if count >= min_count)

    @classmethod
    def load(cls, path: str | Path) -> InstructionVocabulary:
        """Read a published vocabulary: one word a line, the three special ones first. Raises DataError."""
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the vocabulary ({error})", file=path) from None
        words = [line.strip() for line in lines if line.strip()]
        if tuple(words[: len(SPECIAL)]) != SPECIAL:
            raise DataError(f"must begin with the lines {', '.join(SPECIAL)}", file=path)
        return cls(words[len(SPECIAL) :])

    def save(self, path: str | Path) -> None:
        """Write the file that `load`, and the published code, read."""
        with atomic_write(path) as stream:
            stream.write("\n".join((*SPECIAL, *self.words, "")).encode())

    def __len__(self) -> int:
        """How many ids there are, those of the special words and of the begin word among them."""
        return len(self._index)

    def __getitem__(self, word: str) -> int:
        return self._index.get(word, UNKNOWN)

    @property
    def begin(self) -> int:
        """The id of the begin word."""
        return len(self) - 1

    @property
    def end(self) -> int:
        """The id of the end word."""
        return END

    @property
    def unknown(self) -> int:
        """The id that unknown words share."""
        return UNKNOWN

    def encode(self, words: Sequence[str], length: int) -> list[int]:
        """Begin, ids of the words, end, and padding up to `length`.

        A sentence that is too long is cut, and its last place is the end. Raises ValueError for a length below 2.
        """
        if length < 2:
            raise ValueError("an encoded instruction needs at least two places")
        ids = [self.begin, *(self[word] for word in words), END]
        if len(ids) > length:
            return [*ids[: length - 1], END]
        return ids + [PAD] * (length - len(ids))

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words up to the end; begin and padding are left out."""
        table = (*SPECIAL, *self.words, BEGIN)
        out = []
        for number in ids:
            if number == END:
                break
            if number not in (PAD, self.begin):
                out.append(table[number])
        return out
