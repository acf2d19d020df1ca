from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.errors import DataError
from clipvil.records import Caption
from clipvil.text.caption_vocabulary import CaptionVocabulary, caption_words


def test_words_are_kept_in_order_of_appearance_and_unknown_is_last() -> None:
    words = CaptionVocabulary.build([["b", "a", "b"], ["a", "c"]], min_count=2)
    assert words.words == ("b", "a")
    assert words.unknown == 3
    assert len(words) == 4
    assert words.encode(["a", "c", "b"]) == [2, 3, 1]
    assert words.encode(["a", "c", "b"], 2) == [2, 3]
    assert words.decode([2, 3, 1, 0, 2]) == "a UNK b"


def test_without_rare_words_there_is_no_unknown() -> None:
    words = CaptionVocabulary.build([["a", "b"]], min_count=1)
    assert words.unknown is None
    assert len(words) == 3
    assert words.encode(["a", "z", "b"]) == [1, 2]
    with pytest.raises(DataError, match="no word 3 among 3"):
        words.decode([3])


def test_the_published_rule_is_more_than_five() -> None:
    words = CaptionVocabulary.build([["five"]] * 5 + [["six"]] * 6)
    assert words.words == ("six",)


def test_the_corpus_own_tokens_come_first() -> None:
    records = [Caption("1", "A DOG's!", tokens=("a", "dogs")), Caption("1", "A dog's tail."), Caption("2", "")]
    assert caption_words(records) == [("a", "dogs"), ("a", "dog", "'s", "tail"), ()]


def test_a_file_and_back(tmp_path: Path) -> None:
    words = CaptionVocabulary(["a", "ü"], unknown=False)
    words.save(tmp_path / "v.json")
    again = CaptionVocabulary.load(tmp_path / "v.json")
    assert (again.words, again.unknown, again.fingerprint()) == (words.words, None, words.fingerprint())
    assert CaptionVocabulary(["ü", "a"], unknown=False).fingerprint() != words.fingerprint()


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the word 'a' stands twice"):
        CaptionVocabulary(["a", "a"])
    path = tmp_path / "v.json"
    with pytest.raises(DataError, match="cannot read the vocabulary"):
        CaptionVocabulary.load(path)
    for text, message in (
        ("{", "cannot read the vocabulary"),
        ("[]", "list of strings under 'words'"),
        ('{"words": [1]}', "list of strings under 'words'"),
        ('{"words": ["a"], "unknown": 1}', "field 'unknown': must be true or false"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            CaptionVocabulary.load(path)


def test_the_published_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cocotalk.json"
    rows = {"2": "dog", "1": "a", "3": "UNK"}
    path.write_text(json.dumps({"ix_to_word": rows, "images": []}), encoding="utf-8")
    words = CaptionVocabulary.load(path)
    assert (words.words, words.unknown, len(words)) == (("a", "dog"), 3, 4)
    assert words.to_json() == {"words": ["a", "dog"], "unknown": True}
    path.write_text(json.dumps({"ix_to_word": {"1": "a", "2": "dog"}}), encoding="utf-8")
    assert CaptionVocabulary.load(path).unknown is None
    for table, message in (
        ({}, "must be an object of words under the keys"),
        (["a"], "must be an object of words under the keys"),
        ({"1": "a", "3": "b"}, "must be an object of words under the keys"),
        ({"1": "UNK", "2": "b"}, "UNK must be the last word"),
        ({"1": 3}, "list of strings"),
    ):
        path.write_text(json.dumps({"ix_to_word": table}), encoding="utf-8")
        with pytest.raises(DataError, match=message):
            CaptionVocabulary.load(path)
