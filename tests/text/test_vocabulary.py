from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.errors import DataError
from clipvil.text.vocabulary import MAX_TOKENS, PAD, UNKNOWN, Vocabulary, tokenize, word_vectors
from tests.shared import shared


@pytest.mark.parametrize(
    ("question", "tokens"),
    [
        ("What color is the umbrella?", ["what", "color", "is", "the", "umbrella"]),
        ("Is the man's hand red, or not?", ["is", "the", "man", "'", "s", "hand", "red", "or", "not"]),
        ("Smiling (at the woman)?", ["smiling", "(", "at", "the", "woman", ")"]),
        ("a-b", ["a", "-", "b"]),
        ("?,", []),
    ],
)
def test_tokens(question: str, tokens: list[str]) -> None:
    assert tokenize(question) == tokens


def test_recorded_tokens_and_rows() -> None:
    recorded = json.loads(shared("fixtures", "pythia", "text.json").read_text(encoding="utf-8"))
    vocabulary = Vocabulary(recorded["vocabulary_words_in_file_order"])
    assert {word: vocabulary[word] for word in recorded["special_rows"]} == recorded["special_rows"]
    assert vocabulary[vocabulary.words[0]] == recorded["first_word_index"]
    for row in recorded["questions"]:
        assert tokenize(row["question"]) == row["tokens"]
        assert vocabulary.encode(row["question"], recorded["max_length"]) == (row["ids"], row["length"])


def test_build_orders_by_frequency_then_alphabet() -> None:
    sentences = ["the red dog", "the cat", "a red cat", "the end"]
    assert Vocabulary.build(sentences).words == ("the", "cat", "red", "a", "dog", "end")
    assert Vocabulary.build(sentences, min_count=2).words == ("the", "cat", "red")
    assert Vocabulary.build(reversed(sentences)).words == Vocabulary.build(sentences).words


def test_encode_pads_cuts_and_never_is_empty() -> None:
    vocabulary = Vocabulary(["red", "dog"])
    assert vocabulary.encode("Red zebra", 4) == ([4, UNKNOWN, PAD, PAD], 2)
    assert vocabulary.encode("red " * 20) == ([4] * MAX_TOKENS, MAX_TOKENS)
    assert vocabulary.encode("???", 3) == ([UNKNOWN, PAD, PAD], 1)


def test_saved_vocabulary_comes_back(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["red", "caf\u00e9"])
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json").words == vocabulary.words
    (tmp_path / "words.txt").write_text("\ufeffred\n\n<unk>\ncaf\u00e9\nred\n", encoding="utf-8")
    assert Vocabulary.load(tmp_path / "words.txt").words == vocabulary.words


@pytest.mark.parametrize("text", ['{"words": ["a", 3]}', '["a"]', '{"words": ["a"', '{"words": ["a", "a"]}'])
def test_damaged_vocabulary_names_the_trouble(tmp_path: Path, text: str) -> None:
    path = tmp_path / "words.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"words|vocabulary"):
        Vocabulary.load(path)
    with pytest.raises(DataError, match=r"absent\.json"):
        Vocabulary.load(tmp_path / "absent.json")


def test_word_vectors_as_published(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 2 3\nzebra 9 9 9\nmany . . 4 4 4\nred -1 0.5 2e-1\n", encoding="utf-8")
    table = word_vectors(Vocabulary(["red", "many", "dog"]), path)
    assert table.shape == (7, 3)
    assert table[:4].flatten().tolist() == pytest.approx([x for x in (0.0, 0.1, 0.2, 0.3) for _ in range(3)])
    assert table[4].tolist() == pytest.approx([-1, 0.5, 0.2])
    assert table[5].tolist() == pytest.approx([0.3] * 3)
    assert table[6].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog 1 2\nred 1\n", "row 2: 1 numbers, but the first row has 2"),
        ("red 1 x\n", "row 1: could not convert"),
        ("red 1 nan\n", "row 1: .*not a finite"),
        ("", "holds no word vectors"),
    ],
)
def test_damaged_word_vectors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "glove.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        word_vectors(Vocabulary(["red"]), path)


@given(st.text())
def test_any_text_is_encoded(text: str) -> None:
    rows, length = Vocabulary(["red"]).encode(text)
    assert len(rows) == MAX_TOKENS
    assert 1 <= length <= MAX_TOKENS
    assert all(token == token.strip() and token for token in tokenize(text))
