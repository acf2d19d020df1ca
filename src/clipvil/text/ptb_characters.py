"""How the tokenizer sees characters outside ASCII: each stands for one of a few, so that its patterns stay small.

Recorded by running every character of the basic plane through CoreNLP 3.4.1. What lies above it (emoji, rare Chinese)
is dropped by the original, which reads sixteen bits at a time.
"""

from __future__ import annotations

import unicodedata

LETTER, CAPITAL, DIGIT, MARK, SYMBOL, DROPPED, SPACE = (
    "\u00e9",
    "\u00c9",
    "\u0660",
    "\u0300",
    "\u00a7",
    "\u0081",
    "\u2003",
)
"""The stand-ins. A `MARK` (accents, vowel signs) begins and continues words of letters but does not follow a digit."""
# Each of these has a meaning of its own in some pattern and stands for itself.
_THEMSELVES = frozenset(
    "\x80\x85\x91\x92\x93\x94\x96\x97\xa0\xa2\xa3\xa4\xab\xad\xb2\xb3\xb9\xbb\xbc\xbd\xbe\u058a\u066b\u066c\u2010\u2011"
    "\u2013\u2014\u2015\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2026\u2028\u2029\u2039\u203a\u2044\u2070"
    "\u2074\u2075\u2076\u2077\u2078\u2079\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089\u20a0\u20ac\u2153"
    "\u2154"
)
_SYMBOLS = (
    "a1 a5-a9 ac ae-b1 b4 b6-b8 bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-5f4 600-603 606-60c 614 61b 61e-61f 66a 66d "
    "6d4 700-70d 7f6-7f8 964-965 e3f e4f 1fbd 2016-2017 2020-2023 2030-2038 203b 203e-2042 207a-207e 208a-208e 20a4 "
    "2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125 2127 2129 212e 213a-213b 2140-2144 214a-214d 214f "
    "2155-215e 2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 ff5b-ff65 ffe0-ffe1 ffe5-ffe6"
)
_MARKS = (
    "2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 378-379 384-385 3f6 483-487 55a-55f 591-5bd 5bf 5c1-5c2 5c4-5c5 5c7 "
    "615-61a 64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3 900-903 93c 93e-94e 951-955 962-963 "
    "981-983 9bc 9be-9c4 9c7-9c8 9cb-9cd 9d7 9e2-9e3 a01-a03 a3c a3e-a4f a81-a83 abc abe-acf b82 bbe-bc2 bc6-bc8 "
    "bca-bcd c01-c03 c3e-c56 d3e-d44 d46-d48 e31 e34-e3a e47-e4e eb1 eb4-ebc ec8-ecd"
)
_SPACES = frozenset("\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u3000")


def _ranges(text: str) -> frozenset[str]:
    out: set[str] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        out.update(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
    return frozenset(out)


class _StandIns(dict[int, str]):
    """A table for `str.translate`, filled with what texts hold."""

    def __init__(self) -> None:
        super().__init__()
        self._symbols, self._marks = _ranges(_SYMBOLS), _ranges(_MARKS)

    def __missing__(self, code: int) -> str:
        self[code] = out = self._of(chr(code))
        return out

    def _of(self, character: str) -> str:
        if character < "\x80" or character in _THEMSELVES:
            return character
        if character > "\uffff":
            return DROPPED
        if character in _SPACES:
            return SPACE
        if character in self._symbols:
            return SYMBOL
        if character in self._marks:
            return MARK
        category = unicodedata.category(character)
        if category[0] == "L":
            return CAPITAL if category == "Lu" else LETTER
        return DIGIT if category == "Nd" else DROPPED


_STAND_INS = _StandIns()


def stand_ins(text: str) -> str:
    """The text with every character outside ASCII replaced by its stand-in; as long as the text itself."""
    return text if text.isascii() else text.translate(_STAND_INS)
