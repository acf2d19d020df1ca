"""The tags of VCR's sentences as words: persons get names that say nothing of their sex, other objects their class.

The rules are those of the reader released with VCR. Which objects count for a question: those tagged in the question or
in one of its choices, all persons too where a word is everyone or everyones, and all persons where that leaves none.
They are numbered from 1 in the order of the row (0 is the whole picture there), and a person's name is the one at its
number, counted round. A group is said name after name, without "and".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PERSON = "person"
NAMES = (
    "Casey", "Riley", "Jessie", "Jackie", "Avery", "Jaime", "Peyton", "Kerry", "Jody", "Kendall", "Peyton", "Skyler",
    "Frankie", "Pat", "Quinn",
)  # fmt: skip
"""The fifteen of the released reader, one of them twice."""
NO_OBJECT = -1
_EVERYONE = ("everyone", "everyones")

Sentence = Sequence[str | tuple[int, ...]]


@dataclass(frozen=True)
class Spoken:
    """A sentence in words, and of each word the object that it names (`NO_OBJECT`: none)."""

    words: tuple[str, ...]
    objects: tuple[int, ...]

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(self.words)

    def spans(self) -> list[tuple[int, int, int]]:
        """Where `text` names objects: (first character, character behind, object)."""
        found, start = [], 0
        for word, thing in zip(self.words, self.objects, strict=True):
            if thing != NO_OBJECT:
                found.append((start, start + len(word), thing))
            start += len(word) + 1
        return found


def relevant(objects: Sequence[str], sentences: Iterable[Sentence]) -> list[int]:
    """The objects that count for a question, ascending; `sentences` are the question and its choices."""
    persons = {number for number, name in enumerate(objects) if name == PERSON}
    used: set[int] = set()
    for sentence in sentences:
        for token in sentence:
            if not isinstance(token, str):
                used.update(token)
            elif token.lower() in _EVERYONE:
                used |= persons
    return sorted(used or persons)


def names_of(objects: Sequence[str], used: Sequence[int]) -> dict[int, str]:
    """What each of the objects `used` is called."""
    return {
        number: NAMES[place % len(NAMES)] if objects[number] == PERSON else objects[number]
        for place, number in enumerate(used, start=1)
    }


def spoken(sentence: Sentence, names: Mapping[int, str]) -> Spoken:
    """A sentence in words. Class names of several words ("dining table") are several words of one object."""
    words: list[str] = []
    objects: list[int] = []
    for token in sentence:
        if isinstance(token, str):
            words.append(token)
            objects.append(NO_OBJECT)
            continue
        for number in token:
            for word in names[number].split():
                words.append(word)
                objects.append(number)
    return Spoken(tuple(words), tuple(objects))
