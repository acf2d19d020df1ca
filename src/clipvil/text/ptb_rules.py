"""The patterns of the Penn Treebank tokenizer, in their order: the longest match wins, and of equal ones the first.

Written from the behaviour of CoreNLP 3.4.1 (`PTBTokenizer -preserveLines -lowerCase`), as recorded on probes: every
character, every pair of letters and tens of thousands of words with a period behind them, and invented captions. What a
rule looks ahead at counts for the length of its match but stays for the next token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipvil.text.ptb_characters import CAPITAL, DIGIT, DROPPED, LETTER, MARK, SPACE

Action = Callable[[str], list[str]]


@dataclass(frozen=True)
class Rule:
    """A pattern over stand-in characters, what it can begin with, and what tokens its text becomes.

    `back` characters at the end of the text are read once more, for the next token.
    """

    first: re.Pattern[str]
    pattern: re.Pattern[str]
    action: Action
    back: int = 0

    def may_start(self, character: str) -> bool:
        """Whether a match can begin with this character."""
        return self.first.match(character) is not None


_Row = tuple[str, str, str, Action]

_GAP = f" \t\xa0{SPACE}"
_GAPS = f"[{_GAP}\n]"
_P = f"A-Za-z{LETTER}{CAPITAL}"  # letters that may follow a digit
_D = f"0-9{DIGIT}"
_L = rf"(?:[{_P}\xad{MARK}]|&[aeiouAEIOU](?:acute|grave|uml);)"
_APOS = "(?:['\x92\u2019]|&apos;)"
_APOS_LIKE = "(?:['\x92\u2019`\x91\u2018\u201b]|&apos;)"
_A1 = "'\x92\u2019&"  # what an apostrophe can begin with
_HYPHEN = "[-_\u058a\u2010\u2011]"
_QUOTES = "`\u2018\u2019\u201a\u201b\u201c\u201d\x91\x92\x93\x94\u201e\u201f\u2039\u203a\xab\xbb"
_RUN = f"(?:{_L}|[{_D}])*"
_WORD = f"{_L}{_RUN}(?:[.!?]{_L}{_RUN})*"
_W1 = f"{_P}\xad{MARK}&"
_PIECE = f"(?:[dDoOlL]{_APOS_LIKE}[{_P}{_D}])?[{_P}{_D}]+"
_THING = f"{_PIECE}(?:{_HYPHEN}{_PIECE})*"
_NUMBER = f"[-+]?(?:[{_D}]*(?:[.:,\xad\u066b\u066c][{_D}]+)+|[{_D}]+)"
_ACRONYM = r"(?:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R)|[A-Za-z](?:\.[A-Za-z])*)"
_SHORT = rf"{_APOS}(?:[msdMSD]|(?i:re|ve|ll))"
_NOT = f"[nN]{_APOS_LIKE}[tT]"
_TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG = (
    rf"<(?:[!?][A-Za-z-][^>\n]*|/{_TAG_NAME} *|"
    rf"""{_TAG_NAME}(?: +{_TAG_NAME}(?:="[^"\n]*"|='[^'\n]*')?)* */?)>"""
)
_IN_URL = '[^ \t\n\f\r"<>|()]'
_ENDS_URL = '[^ \t\n\f\r"<>|.!?(){},-]'
# From the comma to the underscore: digits, capitals and signs in between are left out too, as in the original.
_IN_HOST = "[^ \t\n\f\r\"`'<>|.!?(){},-_$]"

# Before a capital these end the sentence: the period becomes a token of its own as well.
_ENDING = (
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ala ariz calif colo conn ct dak "
    "fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wis wisc wyo inc co cos corp pp?tys? "
    "pp?tes? ltd plc rt bancorp bhd assn univ intl sys tel est ext sq jr sr bros ed\\.d ph\\.d blvd rd esq etc al seq "
    "bldg"
)
_ENDING_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
# After these the sentence goes on, whatever follows.
_TITLES = (
    "mr mrs ms drs? profs? sens? reps? attys? att lt col gen gens messrs govs? adm rev maj sgt cpl pvt capt ste? ave "
    "pres lieut hon brig co?mdr pfc spc supts? det mt ft adj adv asst assoc ens insp mlle mme msgr sfc vs alex wm jos "
    "cie cf mfg mtg dept natl treas elec invt ph"
)
# Abbreviations only before a number.
_NUMBERED = "art ca figs? nos? op pp prop"
# What begins a sentence after an acronym ("U.S. The ...").
_OPENERS = (
    "About According Additionally After An A As At But Earlier He Her Here However If In It Last Many More Mr\\. Ms\\. "
    "Now Once One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"
)
_FILES = (
    "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql "
    "tar txt wav x xml zip wp"
)


def _either(words: str) -> str:
    """Any of the words, in any case."""
    return f"(?i:{'|'.join(words.split())})"


def _capitalised(words: str) -> str:
    """Any of the words with a capital in front; the other letters may be either."""
    return "(?:" + "|".join(f"{word[0]}(?i:{word[1:]})" for word in words.split()) + ")"


def _same(text: str) -> list[str]:
    # Soft hyphens vanish, unless there is nothing else.
    return [text.replace("\xad", "") or "-"] if "\xad" in text else [text]


def _raw(text: str) -> list[str]:
    return [text]


def _nothing(_: str) -> list[str]:
    return []


def _literally(token: str) -> Action:
    return lambda _: [token]


def _by(table: dict[str, str]) -> Action:
    return lambda text: [table[text]]


def _cut(length: int) -> Action:
    """Two tokens, the second of `length` characters."""
    return lambda text: [text[:-length], text[-length:]]


def _with_period(text: str) -> list[str]:
    """An abbreviation that ends its sentence: its period is read once more, and only a single letter gives it up."""
    return [text[:-1]] if len(text) == 2 else [text]


def _ampersand(text: str) -> list[str]:
    return [text.replace("&amp;", "&")]


def _brackets(text: str) -> list[str]:
    return [text.replace("(", "-LRB-").replace(")", "-RRB-")]


def _no_break(text: str) -> list[str]:
    return [text.replace(" ", "\xa0")]


def _phone(text: str) -> list[str]:
    return _no_break(_brackets(text)[0])


def _dashes(text: str) -> list[str]:
    return ["--"] if 2 <= len(text) <= 4 else [text]


_PLAIN_QUOTES: dict[int, str] = {
    **dict.fromkeys(map(ord, "\x92\u2019\u203a"), "'"),
    **dict.fromkeys(map(ord, "\x94\u201d\xbb"), "''"),
    **dict.fromkeys(map(ord, "\x91\u2018\u201b\u2039"), "`"),
    **dict.fromkeys(map(ord, "\x93\u201c\xab"), "``"),
}


def _quotes(text: str) -> list[str]:
    return [text.replace("&apos;", "'").translate(_PLAIN_QUOTES)]


_FRACTIONS = {"\xbc": "1/4", "\xbd": "1/2", "\xbe": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_CURRENCIES = {"\xa2": "cents", "\xa3": "#", "\x80": "$", "\xa4": "$", "\u20a0": "$", "\u20ac": "$"}
_BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}


def _words() -> list[_Row]:
    """Rows of (first characters, pattern, look-ahead, action): words, and what is cut off from them."""
    return [
        ("cC", r"(?i:cannot)", "", _cut(3)),
        ("gGlLwW", r"(?i:gonna|gotta|lemme|gimme|wanna)", "", _cut(2)),
        (_A1, rf"{_APOS}(?i:tis)", "", _cut(2)),
        (_A1, rf"{_APOS}(?i:twas)", "", _cut(3)),
        ("<", _TAG, "", _no_break),
        ("&\x96\x97\u2013\u2014\u2015", "&(?:MD|mdash|ndash);|[\x96\x97\u2013\u2014\u2015]", "", _literally("--")),
        ("&", "&amp;", "", _literally("&")),
        ("&", r"&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);", "", _raw),
        (_W1, _WORD, _SHORT, _same),
        ("A-Za-z\xad", r"[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", _NOT, _same),
        (_W1, _WORD, "", _same),
        ("nN'\x92\u2019&", rf"{_APOS}[nN]{_APOS}?|{_APOS}(?i:em|till?|cause)|{_APOS}[2-9]0s", "", _raw),
        (
            "A-Za-z",
            rf"[lLdDjJ]{_APOS}|(?i:dunkin|somethin|ol){_APOS}|[A-HJ-XZn]{_APOS_LIKE}[{_P}]{{2,}}|(?i:o){_APOS}(?i:clock)|"
            rf"(?i:c){_APOS}(?i:mon)|(?i:s){_APOS}(?i:mores)|(?i:e|o|ne){_APOS}(?i:er)|(?i:ma){_APOS}(?i:am)|"
            rf"(?i:cap){_APOS}(?i:n)|(?i:li|nat){_APOS}(?i:l)|(?i:ev){_APOS}(?i:ry)",
            "",
            _raw,
        ),
        ("yY", rf"[yY]{_APOS}", f"[{_P}]", _raw),
        # Between a vowel and a vowel or a capital ("Hawai'i", "Ka'Anapali").
        (_P, rf"[{_P}]+[aeiouyAEIOUY]{_APOS_LIKE}[aeiouA-Z][{_P}]*", "", _raw),
    ]


def _addresses() -> list[_Row]:
    tail = f"(?:/{_IN_URL}+{_ENDS_URL})?"
    return [
        ("h", f"https?://{_IN_URL}+{_ENDS_URL}", "", _raw),
        ("w", rf'www\.(?:[^ \t\n\f\r"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}{tail}', "", _raw),
        ("A-Za-z%&*+#~\x80-\uffff", rf"(?:{_IN_HOST}+\.)+(?:com|net|org|edu){tail}", "", _raw),
        (
            "A-Za-z0-9<&",
            r'(?:<|&lt;)?[a-zA-Z0-9][^ \t\n\f\r"<>|(){}\xa0]*@(?:[^ \t\n\f\r"<>|(){}.\xa0]+\.)*'
            r'[^ \t\n\f\r"<>|(){}.\xa0]+(?:>|&gt;)?',
            "",
            _raw,
        ),
        ("@#", rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{_L}+|@@+", "", _raw),
        (_A1, _SHORT, r"[^A-Za-z]", _quotes),
        ("nN", _NOT, r"[^A-Za-z]", _quotes),
    ]


def _numbers() -> list[_Row]:
    day, year = f"[{_D}]{{1,2}}", f"[{_D}]{{4}}"
    return [
        (_D, rf"{day}[-/]{day}[-/][{_D}]{{2,4}}|{year}[-/]{day}[-/]{day}", "", _same),
        (f"{_D}+.:,\xad\u066b\u066c-", _NUMBER, "", _same),
        (
            "\u207a\u207b\u208a\u208b\u2070\xb9\xb2\xb3\u2074-\u2079\u2080-\u2089",
            "[\u207a\u207b\u208a\u208b]?(?:[\u2070\xb9\xb2\xb3\u2074-\u2079]+|[\u2080-\u2089]+)",
            "",
            _raw,
        ),
        (_D, rf"(?:[{_D}]{{1,4}}[- \xa0])?[{_D}]{{1,4}}(?:\\?/|\u2044)[{_D}]{{1,4}}", "", _no_break),
        ("\xbc\xbd\xbe\u2153\u2154", "[\xbc\xbd\xbe\u2153\u2154]", "", _by(_FRACTIONS)),
        (
            "aAcCfFpPS-",
            r"[cCfF]#|[cC]\+\+|-(?i:RRB|LRB|RCB|LCB|RSB|LSB)-|(?i:C\.D\.s|pro-|anti-)|S(?:&|&amp;)P-500|S(?:&|&amp;)Ls",
            "",
            _ampersand,
        ),
        (_A1, rf"{_APOS}[0-9][0-9]", _GAPS, _raw),
        ("A-Za-z0-9", r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", "", _raw),
        ("A-Z$#", r"[A-Z]*\$|#+", "", _raw),
        ("\xa2\xa3\x80\xa4\u20a0\u20ac", "[\xa2\xa3\x80\xa4\u20a0\u20ac]", "", _by(_CURRENCIES)),
    ]


def _periods() -> list[_Row]:
    ending = rf"(?:{_either(_ENDING)}|{_capitalised(_ENDING_CAPITALISED)})\."
    return [
        ("A-Za-z", rf"{_ACRONYM}\.", rf"{_GAPS}+{_capitalised(_OPENERS)}{_GAPS}", _with_period),
        ("A-Za-z", ending, rf"{_GAPS}(?:{_GAPS}|[A-Z{CAPITAL}]|{_TAG})", _with_period),
        # The two characters behind count, so that this wins against a longer word ("Inc.5").
        ("A-Za-z", ending, r"[\s\S]{2}", _raw),
        # Where fewer are left, the whole text is at its end, and so is the sentence.
        ("A-Za-z", ending, "", _with_period),
        ("A-Za-z", rf"{_either(_TITLES)}\.", "", _raw),
        ("A-Za-z", rf"{_either(_NUMBERED)}\.", rf"{_GAPS}?[{_D}]", _raw),
        ("A-Za-z", rf"{_ACRONYM}\.", "", _raw),
        (_P + _D, rf"[{_P}{_D}]+(?:\.[{_P}{_D}]+)*\.{_either(_FILES)}", rf"(?:{_GAPS}|[.?!,])", _raw),
        (_W1 + _D, rf"(?:{_WORD}|{_THING})\.", "[,;:\u3001]", _same),
        (
            "(+0-9",
            r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])[0-9]{3,4}[- \xa0]?"
            r"[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
            "",
            _phone,
        ),
    ]


def _signs() -> list[_Row]:
    return [
        ('"&', '"|&quot;', r"[A-Za-z0-9$]", _literally("``")),
        ('"&', '"|&quot;', "", _literally("''")),
        ("<&", "<|&lt;", "", _literally("<")),
        (">&", ">|&gt;", "", _literally(">")),
        ("<>:;=", r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", "[^A-Za-z0-9]", _brackets),
        (
            r"(\^x=~<>'-",
            r"[\^x=~<>]\.\[\^x=~<>]|[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)",
            "",
            _brackets,
        ),
        (r"()\[\]{}", r"[()\[\]{}]", "", _by(_BRACKETS)),
        ("-", "-+", "", _dashes),
        (".\x85\u2026", r"\.{3,5}|(?:\.[ \xa0]){2,4}\.|[\x85\u2026]", "", _literally("...")),
        (r"*\\", r"\*+|(?:\\\*){1,3}", "", _raw),
        ("?!", "[?!]+", "", _raw),
        ("_", "_+", "", _raw),
        (
            "A-Za-z0-9",
            r"[A-Za-z0-9][A-Za-z0-9.,\xad]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9\xad]+))+",
            "",
            _same,
        ),
        (_P + _D, _THING, "", _same),
        ("A-Z", "[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", "", _ampersand),
        ("'", "'", rf"[A-Za-z][^{_GAP}\n]", _literally("`")),
        (_A1, _SHORT, "", _quotes),
        ("nN", _NOT, "", _quotes),
        (f"{_A1}{_QUOTES}", f"''|[{_QUOTES}]{{1,2}}|{_APOS}", "", _quotes),
        ("<>", "<<|>>", "", _raw),
        (rf"{_GAP}{DROPPED}\x00-\x1f\x7f&", rf"[{_GAP}{DROPPED}\x00-\x1f\x7f]+|&nbsp;", "", _nothing),
        (r"\s\S", r"[^\n]", "", _same),
    ]


def _compiled(rows: Sequence[_Row]) -> tuple[Rule, ...]:
    return tuple(
        Rule(re.compile(f"[{first}]"), re.compile(f"({main})({ahead})"), action, int(action is _with_period))
        for first, main, ahead, action in rows
    )


RULES = _compiled([*_words(), *_addresses(), *_numbers(), *_periods(), *_signs()])
