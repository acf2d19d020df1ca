from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.metrics.vqa_normalise import (
    CONTRACTIONS,
    normalise_evalai,
    normalise_lenient,
    normalise_official,
    punctuation_step,
    strip_blanks,
    word_step,
)
from tests.shared import shared

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vqa_eval.json").read_text(encoding="utf-8"))["rows"]


def assert_normalises(row: dict[str, Any]) -> None:
    said = row["prediction"]
    assert normalise_official(said) == row["normalised"]
    assert normalise_evalai(said) == row["evalai_style_normalised"]
    if "python3_normalised" in row:
        assert (
            word_step(punctuation_step(strip_blanks(said), python2=False), python2=False) == row["python3_normalised"]
        )


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: str(row["question_id"]))
def test_recorded_rows(row: dict[str, Any]) -> None:
    assert_normalises(row)


def test_every_recorded_prediction_and_both_steps() -> None:
    path = shared("fixtures", "vqa_eval", "cases.json")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    for row in rows:
        assert_normalises(row)
        assert punctuation_step(strip_blanks(row["prediction"])) == row["after_punctuation_step"]
    assert len(rows) == 600


def test_only_the_first_32_periods_are_removed() -> None:
    assert normalise_official("." * 40 + "dog") == "." * 8 + "dog"
    assert normalise_lenient("." * 40 + "dog") == "dog"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("3.", "3"),
        ("3.5", "3.5"),
        ("no.5", "no.5"),  # what stands before a period never matters
        ("t.v", "tv"),
        ("1,000 people!", "1000 people"),  # a digit,digit pair deletes every mark ...
        ("1,000/people!", "1000people"),
        ("left/right", "left right"),  # ... which otherwise becomes a blank ...
        ("left/ right/up", "left rightup"),  # ... unless it touches a blank somewhere
        ("Im", "im"),  # the capitalised contractions never match
        ("dont", "don't"),
        ("None", "0"),
        ("TEN", "10"),
        ("the", ""),
        ("a an the dog", "dog"),
        ("theatre", "theatre"),
        ("\u0130stanbul", "istanbul"),  # Python 2 lower-cases one character to one
        ("\u039f\u03a3", "\u03bf\u03c3"),  # no final sigma in Python 2
        ("\u1c90", "\u1c90"),  # a capital that Unicode 5.2 did not know
        ("1.\u0665", "1\u0665"),  # only ASCII digits hold a period
        ("\u180ered\u180e", "red"),  # was white space to Python 2
        (" \tred\n", "red"),
    ],
)
def test_official_rules(answer: str, expected: str) -> None:
    assert normalise_official(answer) == expected


def test_contraction_table() -> None:
    assert CONTRACTIONS["couldnt've"] == CONTRACTIONS["couldn'tve"] == "couldn't've"
    assert "couldntve" not in CONTRACTIONS
    assert CONTRACTIONS["somebody'd"] == "somebodyd"
    assert CONTRACTIONS["'ow'sat"] == CONTRACTIONS["ow's'at"] == "'ow's'at"
    assert not {"its", "well", "were", "shell", "hell", "id", "ill", "im", "ive"} & CONTRACTIONS.keys()


@given(st.text())
def test_no_text_breaks_a_normaliser(text: str) -> None:
    for normalise in (normalise_official, normalise_lenient, normalise_evalai):
        out = normalise(text)
        assert out == out.strip()
        assert not set(out.split(" ")) & {"a", "an", "the"}


# Idempotent only without apostrophes and periods: "somebody'd" turns round, and a removed mark can join what a second
# pass reads anew.
@given(st.lists(st.sampled_from(["a", "the", "two", "ten", "none", "red", "wont", "youre", "dog", "10"])))
def test_plain_words_are_normalised_once_and_for_all(words: list[str]) -> None:
    once = normalise_official(" ".join(words))
    assert normalise_official(once) == once
    assert normalise_lenient(" ".join(words)) == once


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_lenient_differs_from_official_only_by_late_periods_in_ascii(text: str) -> None:
    if text.count(".") <= 32:
        assert normalise_lenient(text) == normalise_official(text)
