"""Penn Treebank tokenisation as the COCO caption evaluation uses it, without Java.

Equal to CoreNLP 3.4.1's `PTBTokenizer -preserveLines -lowerCase` and the removal of the official punctuation tokens
that follows it. The original tokenises all captions as one text, a line each, and looks past the end of a line: whether
"at 5 p.m." gets a period of its own depends on the first word of the next caption. Modes:

- `official`: the same, next caption included, so the order of the captions matters as it does there. A caption with
  another line separator than "\\n" (a carriage return, U+2028) shifts all later captions of the original; here it
  counts as its first line, which is what the original gives when it is run alone, and nothing shifts.
- `alone`: every caption for itself, line separators as blanks. A caption's tokens depend on nothing else.

In both, "\\n" is a blank. Where tokens are known to differ from the original is listed in docs/captions.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from clipvil.errors import UsageError
from clipvil.text.ptb_characters import stand_ins
from clipvil.text.ptb_rules import RULES, Rule

Mode = Literal["official", "alone"]
# The bracket tokens are upper case and the text is lower-cased before, so that brackets stay in, as they always have.
PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)
SEPARATORS = re.compile("[\n\r\x0b\x0c\u2028\u2029]")
"""What ends a line for the original tokenizer. U+0085 does not: it is an ellipsis there."""

# Words of letters alone, with commas behind them and a final period: most captions, and no rule looks further there.
_PLAIN = re.compile(r"[A-Za-z]+(?:,? [A-Za-z]+)*(?P<end> ?\.)? ?")
_WORDS = re.compile(r"[a-z]+|[.,]")
# Plain words that the rules take apart.
_SPLIT = re.compile(r"(?i:cannot|gonna|gotta|lemme|gimme|wanna)")
# How far the rules can look behind a line, more than generously.
_SIGHT = 256
_OF_CHARACTER: dict[str, tuple[Rule, ...]] = {}
_KEPT: dict[str, bool] = {}


def tokenize(captions: Iterable[str], *, mode: Mode = "official") -> list[str]:
    """Captions as the metrics want them: lower-case tokens without punctuation, one blank between two.

    Raises UsageError for an unknown mode.
    """
    return [
        " ".join(token for token in tokens if token not in PUNCTUATION) for tokens in all_tokens(captions, mode=mode)
    ]


def all_tokens(captions: Iterable[str], *, mode: Mode = "official") -> list[list[str]]:
    """The tokens of every caption, punctuation included."""
    if mode not in get_args(Mode):
        raise UsageError(f"unknown mode '{mode}' of the tokenizer; choose one of {', '.join(get_args(Mode))}")
    if mode == "alone":
        return [_tokens(SEPARATORS.sub(" ", caption), "") for caption in captions]
    lines = [SEPARATORS.split(caption.replace("\n", " "), maxsplit=1)[0] for caption in captions]
    return [_tokens(line, after) for line, after in zip(lines, _following(lines), strict=True)]


def _following(lines: Sequence[str]) -> list[str]:
    """What the rules see behind each line: the next one, and where that is blank the one after it."""
    after = ""
    out: list[str] = []
    for line in reversed(lines):
        out.append(after)
        more = after if not line.strip() else "\n" if after else ""
        after = f"\n{line}{more}"[:_SIGHT]
    return out[::-1]


def _tokens(line: str, after: str) -> list[str]:
    plain = _PLAIN.fullmatch(line)
    if plain is not None and not _SPLIT.search(line):
        words = _WORDS.findall(line.lower())
        # A period right behind a word may belong to it ("st.", "a.").
        if plain["end"] != "." or not _abbreviation(words[-2]):
            return words
    return _lex(line, after)


def _abbreviation(word: str) -> bool:
    """Whether a period behind this (lower-case) word might be part of it."""
    if word not in _KEPT:
        if len(_KEPT) > 1 << 16:
            _KEPT.clear()
        _KEPT[word] = any(
            _lex(f"{form}.", behind) != [word, "."]
            for form in (word, word.capitalize(), word.upper())
            for behind in ("", "\n5")
        )
    return _KEPT[word]


def _lex(line: str, after: str) -> list[str]:
    """Tokens of `line`; `after` is what the rules see behind its end."""
    text = line + after
    shape, place, end = stand_ins(text), 0, len(line)
    out: list[str] = []
    while place < end:
        tokens, place = _longest(shape, text, place)
        out += [token.lower() for token in tokens]
    return out


def _longest(shape: str, text: str, place: int) -> tuple[list[str], int]:
    """The longest match at `place` as tokens, and where the next one starts."""
    best, end, chosen = place - 1, place + 1, None
    for rule in _rules_of(shape[place]):
        match = rule.pattern.match(shape, place)
        if match is not None and match.end() > best:
            best, end, chosen = match.end(), match.end(1), rule
    return (chosen.action(text[place:end]), end - chosen.back) if chosen is not None else ([], end)


def _rules_of(character: str) -> tuple[Rule, ...]:
    """The rules that can match a text that begins with `character`."""
    rules = _OF_CHARACTER.get(character)
    if rules is None:
        rules = _OF_CHARACTER[character] = tuple(rule for rule in RULES if rule.may_start(character))
    return rules
