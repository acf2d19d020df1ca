"""What a text tower is asked to compare with a picture: one text for a question and each of its candidate answers.

`authors` is the protocol that CLIP-ViL's authors described (the question and the label, one behind the other, for every
label). Everything else here is our own: the paper's other prompts were never published. It was chosen on the training
and validation questions of the miniature world (docs/zero-shot-vqa.md has the figures), never on a test split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

AUXILIARIES = frozenset(
    (
        *("is", "are", "was", "were", "am", "do", "does", "did", "can", "could", "has", "have", "had", "will", "would"),
        *("should", "may", "might", "must", "isn't", "aren't", "wasn't", "doesn't", "don't", "didn't"),
    )
)
"""First words of questions that are answered by yes or no."""
NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBER = re.compile(r"\d+([.,:/]\d+)*")
_COUNT = re.compile(r"^(?:about |approximately )?(?:how many|what number of|what is the number of) ")
_COUNT_TAIL = re.compile(r" (?:are|is|were|was|do|does|did|can|have|has) .*$")
_ATTRIBUTE = re.compile(
    r"^(?:what|which) (?:is the )?(\w+) (?:of |is |are |was |were )+(?:on |in )?(?:the |this |a |an )?(.+)$"
)
_BEING = re.compile(r"^(?:what|who|which)(?:'s| is| are| was| were) (.+)$")
_PLACE = re.compile(r"^where(?:'s| is| are| was| were) (.+)$")
_THING = re.compile(r"\b(object|thing|one|shape|animal|item)\b")


def form_of_question(question: str) -> str:
    """`yes/no`, `number` or `other`, from the words of the question alone."""
    text = _plain(question)
    words = text.split()
    if words and words[0] in AUXILIARIES and " or " not in text:
        return "yes/no"
    return "number" if _COUNT.match(text) else "other"


def form_of_answer(answer: str) -> str:
    """`yes/no`, `number` (figures and number words up to twenty) or `other`."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if _NUMBER.fullmatch(answer) or answer in NUMBER_WORDS else "other"


def opening(question: str) -> str:
    """The first two words: what the candidate set `seen` goes by."""
    return " ".join(_plain(question).split()[:2])


def authors(question: str, answer: str) -> str:
    """`[Question] + [Label]`."""
    return f"{question} {answer}"


def labelled(question: str, answer: str) -> str:
    """`question: … answer: …`, small numbers in words (the text towers of captions rarely saw figures)."""
    return f"question: {question} answer: {_spoken(answer)}"


def statement(question: str, answer: str) -> str:
    """A caption that would be true if the answer were right: "how many red stars are there?" and 2, "two red stars"."""
    text, word = _plain(question), _spoken(answer)
    first, _, rest = text.partition(" ")
    if first in AUXILIARIES and answer in ("yes", "no"):
        if rest.startswith("there "):
            thing = rest.removeprefix("there ")
            return thing if answer == "yes" else "no " + re.sub(r"^(a|an|any|some|more) ", "", thing)
        return rest if answer == "yes" else f"not {rest}"
    if counted := _COUNT.match(text):
        return f"{word} {_COUNT_TAIL.sub('', text[counted.end() :])}"
    if found := _ATTRIBUTE.match(text):
        noun, thing = found.groups()
        replaced, times = _THING.subn(word, thing, count=1)
        return replaced if times and noun in ("shape", "kind", "type", "animal", "object") else f"{word} {thing}"
    if found := _BEING.match(text):
        return f"{word} {found.group(1)}"
    if found := _PLACE.match(text):
        return f"{found.group(1)} {word}"
    return f"{text} {word}"


PROMPTS: dict[str, Callable[[str, str], str]] = {"authors": authors, "labelled": labelled, "statement": statement}
CANDIDATES = ("all", "form", "seen")


class Candidates:
    """Which answers stand for election on a question, as places in the answer list, in its order.

    `all`: every answer. `form`: those of the question's form, told from its words (a question that starts with an
    auxiliary wants yes or no, "how many" a number, the rest anything else); all, where the list has none of that form.
    `seen`: those that training questions with the same first two words had at least twice: that is no longer zero-shot
    in the strict sense, as it knows which answers go with which questions, though not with which pictures.
    """

    def __init__(self, kind: str, answers: Sequence[str], seen: Mapping[str, Sequence[int]] | None = None) -> None:
        self.kind = kind
        self._all = list(range(len(answers)))
        self._seen = {key: list(places) for key, places in (seen or {}).items()}
        self._forms: dict[str, list[int]] = {}
        for place, answer in enumerate(answers):
            self._forms.setdefault(form_of_answer(answer), []).append(place)

    def __call__(self, question: str) -> list[int]:
        """Places in the answer list, rising."""
        if self.kind == "form":
            return self._forms.get(form_of_question(question)) or self._all
        if self.kind == "seen":
            return self._seen.get(opening(question)) or self._all
        return self._all


def count_seen(questions: Iterable[tuple[str, Iterable[str]]], places: Mapping[str, int]) -> dict[str, list[int]]:
    """First two words of a question to the places of answers that such questions had at least twice.

    `questions` are (question, its answers as they stand in the answer list).
    """
    counts: dict[str, dict[int, int]] = {}
    for question, answers in questions:
        mine = counts.setdefault(opening(question), {})
        for answer in set(answers):
            if answer in places:
                mine[places[answer]] = mine.get(places[answer], 0) + 1
    return {key: sorted(p for p, n in mine.items() if n >= 2) for key, mine in sorted(counts.items())}


def _plain(question: str) -> str:
    return " ".join(question.lower().replace("?", " ").split())


def _spoken(answer: str) -> str:
    small = len(answer) <= 2 and answer.isascii() and answer.isdigit() and int(answer) < len(NUMBER_WORDS)
    return NUMBER_WORDS[int(answer)] if small else answer
