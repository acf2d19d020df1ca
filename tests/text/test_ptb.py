from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from clipvil.errors import UsageError
from clipvil.text import ptb
from clipvil.text.ptb import PUNCTUATION, all_tokens, tokenize
from clipvil.text.ptb_characters import stand_ins
from tests.shared import shared

# Recorded captions that are known to come out otherwise. None of the development record does.
KNOWN_DIFFERENCES: dict[str, str] = {}
# At most this share may be on the list.
ALLOWED = 0.01


def recorded() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(shared("fixtures", "caption_metrics", "ptb.json").read_text(encoding="utf-8"))
    return value


def test_recorded_batch() -> None:
    rows = recorded()["batch"]
    raw = [row["raw"] for row in rows]
    got, tokens = [" ".join(line) for line in all_tokens(raw)], tokenize(raw)
    different = {r["raw"]: line for r, line in zip(rows, got, strict=True) if line != r["unfiltered"]}
    assert different == KNOWN_DIFFERENCES
    assert len(KNOWN_DIFFERENCES) <= ALLOWED * len(rows)
    kept = [r for r in rows if r["raw"] not in KNOWN_DIFFERENCES]
    assert [t for r, t in zip(rows, tokens, strict=True) if r in kept] == [r["tokens"] for r in kept]


def test_recorded_captions_alone() -> None:
    rows = recorded()["batch"]
    alone = tokenize([row["raw"] for row in rows], mode="alone")
    assert alone == [row.get("tokens_alone", row["tokens"]) for row in rows]
    assert sum("tokens_alone" in row for row in rows) == 5


def test_recorded_line_separators() -> None:
    rows = recorded()["captions_with_line_breaks_run_alone"]
    for row in rows:
        assert tokenize([row["raw"]]) == [row["tokens"]]
        # Nothing is lost where every caption stands for itself.
        assert tokenize([row["raw"]], mode="alone") == ["a man a dog"]


@pytest.mark.parametrize("mode", ["official", "alone"])
@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\u2028", "\u2029", "\n\n"])
def test_a_line_break_shifts_no_other_caption(mode: ptb.Mode, separator: str) -> None:
    out = tokenize(["A cat.", f"A man{separator}a dog.", "Two birds."], mode=mode)
    assert (out[0], out[2]) == ("a cat", "two birds")
    assert out[1].startswith("a man")


def test_official_looks_at_the_next_caption() -> None:
    assert tokenize(["At 5 p.m.", "A dog"]) == ["at 5 p.m.", "a dog"]
    assert all_tokens(["At 5 p.m.", "A dog runs"])[0] == ["at", "5", "p.m.", "."]
    assert all_tokens(["At 5 p.m.", "a dog runs"])[0] == ["at", "5", "p.m."]
    assert all_tokens(["At 5 p.m.", "", " ", "A dog runs"])[0] == ["at", "5", "p.m.", "."]
    assert all_tokens(["Smith Inc.", "Dogs"])[0] == ["smith", "inc.", "."]
    assert all_tokens(["On Main St.", "Dogs"])[0] == ["on", "main", "st."]
    # At the very end there is nothing to look at.
    assert all_tokens(["At Smith Inc."])[0] == ["at", "smith", "inc.", "."]
    assert all_tokens(["At Smith Inc.", "x"])[0] == ["at", "smith", "inc."]
    assert all_tokens(["x Inc.5"])[0] == ["x", "inc.", ".5"]
    assert all_tokens(["x :)"])[0] == ["x", ":", "-rrb-"]
    assert all_tokens(["x :)", "y"])[0] == ["x", ":-rrb-"]
    assert all_tokens(["At 5 p.m.", "A dog runs"], mode="alone")[0] == ["at", "5", "p.m."]


# Recorded with CoreNLP 3.4.1; every line followed by a caption of small letters.
PROBES = {
    "cannot gonna gonnas gimme 'tis 'Twas whaddya": "can not gon na gonnas gim me 't is 't was whaddya",
    "don't DON'T don`t won’t shan't y'all o'clock ma'am": "do n't do n't do n`t wo n't sha n't y' all o'clock ma'am",
    "D'Angelo L'Oreal Hawai'i rock'n'roll ol' 'em": "d'angelo l'oreal hawai'i rock 'n' roll ol' 'em",
    "two'x x'yy A'bcd it'sx": "two ' x x ` yy a'bcd it ` sx",
    "A/C a/b/c/d w/ 1/2 and 5 3/4 cups": "a/c a/b/c / d w / 1/2 and 5\xa03/4 cups",
    "$100 US$46 us$5 £7 €5 5¢ #43 #cake ##": "$ 100 us$ 46 us $ 5 # 7 $ 5 5 cents # 43 #cake ##",
    ":) ;-) :D :o) <3 ^_^ (-_-) :/ x:)": ":-rrb- ;--rrb- :d :o-rrb- < 3 ^_^ -lrb--_--rrb- : / x :-rrb-",
    "a..b a...b a....b .... two-- three---x -----": "a. . b a. . . b a. ... b ... two -- three -- x -----",
    "foo@bar.com @user http://a.b/c. www.x.com, x.uk": "foo@bar.com @user http://a.b/c . www.x.com , x.uk",
    "Mr. A Jan. A jan. a Miss. A mass. A Inc.5": "mr. a jan. . a jan. a miss. . a mass . a inc. 5",
    "U.S. The U.S. the non-U.S. U.S.-based x-U.S. a": "u.s. . the u.s. the non-u.s. u.s.-based x-u.s. a",
    "no. 5 no. A fig.5 vol. 5 C# C++ G#": "no. 5 no . a fig. 5 vol . 5 c# c++ g #",
    "<b>x</b> <a b='c d'> <1> << &amp; &lt; caf&eacute;": "<b> x </b> <a\xa0b='c\xa0d'> < 1 > << & < caf&eacute;",
    "(555) 555-1234 +1 555 12:30pm 1982–2001 3m² 2½": (
        "-lrb-555-rrb-\xa0555-1234 +1 555 12:30 pm 1982 -- 2001 3m ² 2 1/2"
    ),
    "e\u0301t 5\u0301 q\u0301q 中文 😀x \xadx x\xady ﬂ": "e\u0301t 5 \u0301 q\u0301q 中文 x x xy ﬂ",
    "'a' 'ab c' \"a\" \". a\" “x” ‘x’ ''x''": "` a ' ` ab c ' `` a '' '' . a '' `` x '' ` x ' '' x ''",
}


@pytest.mark.parametrize("caption", PROBES)
def test_probes(caption: str) -> None:
    assert all_tokens([f"{caption} q", "q q"])[0] == [*PROBES[caption].split(" "), "q"]


def test_plain_captions_take_the_short_way_to_the_same_tokens() -> None:
    captions = [
        "A man, a dog and a cat.", "Two dogs run .", "A view of the st.", "Cannot see", "One", "a.", "At the corp.",
        "A sign reads no.", "A dog with a tv. ", "The AVE.",
    ]  # fmt: skip
    after = "\n5 Dogs"
    assert all(ptb._PLAIN.fullmatch(caption) for caption in captions)
    assert [ptb._tokens(caption, after) for caption in captions] == [ptb._lex(caption, after) for caption in captions]


def test_removed_tokens() -> None:
    assert len(PUNCTUATION) == 17
    assert tokenize(['A "man" -- (x) [y] {z}, a: b; c? d! ee... - `f\' "']) == [
        "a man -lrb- x -rrb- -lsb- y -rsb- -lcb- z -rcb- a b c d ee f"
    ]


def test_empty_captions_and_modes() -> None:
    assert tokenize([]) == []
    assert tokenize(["", " ", ".", "\n"]) == ["", "", "", ""]
    with pytest.raises(UsageError, match="unknown mode 'fast' of the tokenizer; choose one of official, alone"):
        tokenize(["x"], mode="fast")  # type: ignore[arg-type]


def test_stand_ins_keep_length() -> None:
    text = "caf\u00e9 \u00c9 \u0661 \U0001f600 \u0301 \u2019 \u3000 \u0904 \ue000"
    assert len(stand_ins(text)) == len(text)
    assert stand_ins("plain") == "plain"


def test_against_java_where_it_is_installed() -> None:
    folder = pytest.importorskip("pycocoevalcap.tokenizer", reason="needs the extra [java]").__path__[0]
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    import subprocess
    import tempfile
    from pathlib import Path

    captions = [row["raw"].replace("\n", " ") for row in recorded()["batch"]][::-1] + list(PROBES)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "captions.txt")
        path.write_text("\n".join(captions), encoding="utf-8", newline="\n")
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", f"{folder}/stanford-corenlp-3.4.1.jar"]
        command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(path)]
        lines = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8").split("\n")
    got = [" ".join(line) for line in all_tokens(captions)]
    assert got == lines[: len(got)]
