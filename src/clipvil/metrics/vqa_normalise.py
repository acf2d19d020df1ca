"""The answer normalisers of the VQA challenge: the official one, a sane one, and the one that MMF applies.

Source of the rules: the official evaluator of VQA v2 (`vqaEval.py`, run under Python 2.7), re-implemented from recorded
behaviour. Its quirks are kept, because published numbers contain them:

- only the first 32 periods of an answer are looked at (a flag is passed where a count belongs);
- a period is removed unless a digit follows; what stands before it never matters (a malformed look-behind);
- a digit, a comma and a digit anywhere in the answer make every punctuation mark vanish instead of becoming a blank;
- capitalised contractions ("Im") are never mended, because the answer is lower-cased first;
- Python 2 lower-cases one character at a time by the tables of Unicode 5.2, and `\\d` means ASCII digits only.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Right spellings whose form without any apostrophe is mended ("dont" -> "don't").
_PLAIN = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll "
    "how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't "
    "should've shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's "
    "there'd there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's "
    "what've when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've "
    "wouldn't y'all you'd you'll you're you've"
)
# Right spellings with several apostrophes, of which exactly one is missing ("couldnt've", "couldn'tve").
_DOUBLE = (
    "couldn't've hadn't've he'd've it'd've mightn't've 'ow's'at she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've you'd've"
)


def _contractions() -> dict[str, str]:
    table = {right.replace("'", ""): right for right in _PLAIN.split()}
    for right in _DOUBLE.split():
        for place in (i for i, character in enumerate(right) if character == "'"):
            table[right[:place] + right[place + 1 :]] = right
    # The one entry of the official table that stands the wrong way round.
    table["somebody'd"] = "somebodyd"
    return table


CONTRACTIONS = _contractions()
_NUMBERS = {"none": "0"} | {
    word: str(value)
    for value, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
}
_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_ANY_PUNCTUATION = re.compile("[" + re.escape(_PUNCTUATION) + "]")
_THOUSANDS_ASCII, _THOUSANDS = re.compile(r"[0-9],[0-9]"), re.compile(r"\d,\d")
_PERIOD_ASCII, _PERIOD = re.compile(r"\.(?![0-9])"), re.compile(r"\.(?!\d)")
_OFFICIAL_PERIODS = 32  # the value of re.UNICODE, which the official script passes as the count
_OUTER_BLANKS = re.compile(r"^[\s\u180e]+|[\s\u180e]+$")
_CACHE = 1 << 18

# Capitals that Unicode 5.2 (Python 2.7) did not have or did not lower-case.
_NEWER_CAPITALS = re.compile(
    "[\u037f\u0526-\u052e\u10c7\u10cd\u13a0-\u13f5\u1c90-\u1cbf\u2c2f\u2cf2\ua660\ua698-\ua69a\ua78d-\ua7ff"
    "\U000104b0-\U000104d3\U00010570-\U00010595\U00010c80-\U00010cb2\U000118a0-\U000118bf\U00016e40-\U00016e5f"
    "\U0001e900-\U0001e921]"
)


def _lower_python2(text: str) -> str:
    """Lower case as Python 2.7 did: character by character, so no final sigma, and a dotted capital I becomes "i"."""
    if text.isascii():
        return text.lower()
    return "".join(
        "i" if c == "\u0130" else c if _NEWER_CAPITALS.match(c) else c.lower() for c in text.replace("\u180e", " ")
    )


def strip_blanks(answer: str) -> str:
    """Newlines and tabs become blanks, outer blanks go: what the official evaluator does to every answer."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    # The Mongolian vowel separator was white space to Python 2.
    return _OUTER_BLANKS.sub("", text) if "\u180e" in text else text


def punctuation_step(text: str, *, python2: bool = True, periods: int = _OFFICIAL_PERIODS) -> str:
    """The official punctuation step. `periods` limits how many periods are looked at; 0 means all.

    A mark that touches a blank anywhere in `text` is deleted everywhere, else it becomes a blank.
    """
    out = text
    if _ANY_PUNCTUATION.search(text):
        thousands = (_THOUSANDS_ASCII if python2 else _THOUSANDS).search(text) is not None
        for mark in _PUNCTUATION:
            if mark in text:
                out = out.replace(mark, "" if thousands or mark + " " in text or " " + mark in text else " ")
    if "." in out:
        out = (_PERIOD_ASCII if python2 else _PERIOD).sub("", out, count=periods)
    return out


def word_step(text: str, *, python2: bool = True) -> str:
    """The official digit-and-article step: lower case, number words to digits, articles out, contractions mended."""
    words = (_NUMBERS.get(word, word) for word in (_lower_python2(text) if python2 else text.lower()).split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(maxsize=_CACHE)
def normalise_official(answer: str) -> str:
    """What the official evaluator compares when annotators disagree, Python 2 semantics included."""
    return word_step(punctuation_step(strip_blanks(answer)))


@lru_cache(maxsize=_CACHE)
def normalise_lenient(answer: str) -> str:
    """The same rules without the accidents: every period, Unicode digits and lower case as Python 3 knows them."""
    return word_step(punctuation_step(strip_blanks(answer), python2=False, periods=0), python2=False)


@lru_cache(maxsize=_CACHE)
def simple_word(answer: str) -> str:
    """MMF's answer preprocessor: lower case, commas and question marks deleted, "'s" split off, stripped."""
    return answer.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


@lru_cache(maxsize=_CACHE)
def normalise_evalai(answer: str) -> str:
    """MMF's variant of the official normaliser (`vqa_evalai_accuracy`): `simple_word` first, then the same steps."""
    text = simple_word(answer).replace("\n", " ").replace("\t", " ").strip()
    return word_step(punctuation_step(text, python2=False), python2=False)
