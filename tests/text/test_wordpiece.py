"""WordPiece against the recorded tokeniser, and the ways to have a vocabulary."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipvil.errors import DataError
from clipvil.text.wordpiece import BERT, BERT_PIECES, PACKAGE, SPECIAL, WordPiece, package_folder
from tests.shared import shared

PIECES = (*SPECIAL, "a", "red", "ball", "##s", "?", "b")


def recorded() -> list[dict[str, Any]]:
    value: list[dict[str, Any]] = json.loads(shared("fixtures", "clipvil_p", "tokenizer.json").read_text())["cases"]
    return value


def test_every_recorded_sentence() -> None:
    read = WordPiece.load(shared("fixtures", "clipvil_p", "vocab.txt"))
    words = WordPiece(read.pieces, typed_specials=True)
    assert len(recorded()) >= 20
    for case in recorded():
        rows, length = words.encode(case["text"])
        assert rows == case["input_ids"], case["text"]
        assert [1] * length + [0] * (20 - length) == case["attention_mask"], case["text"]
        assert words.tokenize(case["text"]) == case["pieces"], case["text"]
    tokens, mask = words.encode_batch([case["text"] for case in recorded()])
    assert tokens.tolist() == [case["input_ids"] for case in recorded()]
    assert mask.int().tolist() == [case["attention_mask"] for case in recorded()]


def test_what_somebody_types_is_no_special_piece() -> None:
    assert WordPiece(PIECES).tokenize("a [MASK] ball") == ["a", "[UNK]", "[UNK]", "[UNK]", "ball"]
    assert WordPiece(PIECES, typed_specials=True).tokenize("a [MASK] ball") == ["a", "[MASK]", "ball"]


def test_sentences_are_cut_and_padded() -> None:
    words = WordPiece(PIECES)
    assert words.encode("Red balls?", 8) == ([2, 6, 7, 8, 9, 3, 0, 0], 6)
    assert words.encode("red balls? a a a", 4) == ([2, 6, 7, 3], 4)
    assert words.encode("", 3) == ([2, 3, 0], 2)
    tokens, mask = words.encode_batch([], 5)
    assert tokens.shape == mask.shape == (0, 5)
    with pytest.raises(DataError, match="at least 2"):
        words.encode("red", 1)


def test_built_from_a_corpus_it_knows_every_word_of_known_letters() -> None:
    sentences = ["A red ball.", "two red balls on the left", "Café?", "the ball is red"]
    words = WordPiece.build(sentences)
    assert words.pieces[:5] == SPECIAL and "ball" in words.pieces and "cafe" in words.pieces
    assert words.tokenize("redball") != ["[UNK]"] and "[UNK]" not in words.tokenize("sable heads fit two cats")
    assert words.tokenize("zebra") == ["[UNK]"]
    shuffled = list(sentences)
    random.Random(0).shuffle(shuffled)
    assert WordPiece.build(shuffled).pieces == words.pieces
    small = WordPiece.build(sentences, size=5)
    assert all(len(piece.removeprefix("##")) == 1 for piece in small.pieces[5:])
    assert small.tokenize("ball") == ["b", "##a", "##l", "##l"]
    assert "left" not in WordPiece.build(sentences, min_count=2).pieces


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60), st.integers(2, 24))
def test_any_text_gives_rows_of_the_table(text: str, length: int) -> None:
    words = WordPiece(PIECES)
    rows, real = words.encode(text, length)
    assert len(rows) == length and 2 <= real <= length
    assert rows[0] == 2 and rows[real - 1] == 3 and not any(rows[real:])
    assert all(0 <= row < len(words) for row in rows)


def test_files_and_folders(tmp_path: Path) -> None:
    words = WordPiece(PIECES, typed_specials=True)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    assert WordPiece.load(tmp_path).pieces == WordPiece.load(tmp_path / "vocab.txt").pieces == PIECES
    words.save(tmp_path / "own.json")
    again = WordPiece.load(tmp_path / "own.json")
    assert (again.pieces, again.typed_specials, again.lowercase) == (PIECES, True, True)
    words.encode("red")
    assert copy.deepcopy(words).encode("red ball") == words.encode("red ball")
    assert "_tokenizer" in words.__dict__ and "_tokenizer" not in words.__getstate__()
    other = tmp_path / "hf"
    other.mkdir()
    words._tokenizer.save(str(other / "tokenizer.json"))
    assert WordPiece.load(other).pieces == PIECES
    cased = WordPiece.from_json({"pieces": [*PIECES, "Red"], "lowercase": False})
    assert cased.tokenize("Red red RED") == ["Red", "red", "[UNK]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n".join(PIECES[1:]), r"lacks \[PAD\]"),
        ("\n".join(("a", *SPECIAL)), "stands in row 1"),
        ("\n".join((*PIECES, "red")), "'red' stands twice"),
    ],
)
def test_broken_vocabularies_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "vocab.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        WordPiece.load(tmp_path)
    assert "vocab.txt" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"pieces": [1]}', '{"model": {"vocab": {"a": 3}}}', '{"model": {"type": "BPE"}}']
)
def test_broken_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        WordPiece.load(tmp_path / "x.json")


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such vocabulary"):
        WordPiece.load(tmp_path / "vocab.txt")
    with pytest.raises(DataError, match="neither"):
        WordPiece.load(tmp_path)


def test_the_package_carries_the_vocabulary_of_bert() -> None:
    if package_folder() is None:
        pytest.skip(f"{PACKAGE} is not installed (extra [offline])")
    words = WordPiece.load(BERT)
    assert len(words) == BERT_PIECES and (words.cls, words.sep, words.mask) == (101, 102, 103)
    assert words.pieces == WordPiece.load(PACKAGE).pieces
    assert words.encode("What color is the cat?", 10)[0] == [101, 2054, 3609, 2003, 1996, 4937, 1029, 102, 0, 0]
