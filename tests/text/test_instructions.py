from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.errors import DataError
from clipvil.text.instructions import InstructionVocabulary, split_instruction
from tests.shared import shared


def test_sentences_split_as_published() -> None:
    assert split_instruction(" Walk past, the T.V.... and (stop)!? ") == [
        "walk", "past", ",", "the", "t", ".", "v", "....", "and", "(", "stop", ")", "!", "?",
    ]  # fmt: skip


def test_the_published_vocabulary_reads_and_writes(tmp_path: Path) -> None:
    path = shared("data", "r2r", "train_vocab.txt")
    words = InstructionVocabulary.load(path)
    assert len(words) == 992 and words.begin == 991 and words["the"] == 3 and words["kettlebell"] == 1
    words.save(tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_text().split() == path.read_text().split()


def test_frequent_words_of_val_seen_are_all_in_the_published_vocabulary() -> None:
    rows = json.loads(shared("data", "r2r", "R2R_val_seen.json").read_text())
    built = InstructionVocabulary.build(split_instruction(text) for row in rows for text in row["instructions"])
    published = InstructionVocabulary.load(shared("data", "r2r", "train_vocab.txt"))
    assert len(built.words) == 299 and set(built.words) <= set(published.words)


def test_vowel_signs_stay_in_their_words() -> None:
    assert split_instruction("उत्तर की ओर, जाओ।", marks=True) == ["उत्तर", "की", "ओर", ",", "जाओ", "।"]
    assert split_instruction("ఉత్తరం వైపు వెళ్ళు...", marks=True) == ["ఉత్తరం", "వైపు", "వెళ్ళు", "..."]
    said = " Walk past, the T.V.... and (stop)!? "
    assert split_instruction(said, marks=True) == split_instruction(said)


def test_frequency_then_first_seen_orders_words() -> None:
    built = InstructionVocabulary.build([["b", "a", "a"], ["c", "b", "d"]], min_count=1)
    assert built.words == ("b", "a", "c", "d")
    assert InstructionVocabulary.build([["b", "a", "a"]], min_count=2).words == ("a",)


def test_ids_begin_and_end() -> None:
    words = InstructionVocabulary(["go", "left"])
    assert words.encode(["go", "far"], 6) == [5, 3, 1, 2, 0, 0]
    assert words.encode(["go", "left", "go"], 4) == [5, 3, 4, 2] and words.encode(["go", "left"], 4) == [5, 3, 4, 2]
    assert words.decode([5, 3, 4, 2, 0, 3]) == ["go", "left"]
    with pytest.raises(ValueError, match="two places"):
        words.encode([], 1)


def test_broken_vocabularies(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("the\nof\n")
    with pytest.raises(DataError, match="must begin with the lines <PAD>, <UNK>, <EOS>"):
        InstructionVocabulary.load(tmp_path / "v.txt")
    with pytest.raises(DataError, match="'go' stands twice"):
        InstructionVocabulary(["go", "go"])
