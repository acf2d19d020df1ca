from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.models.answer_transplant import plan_transplant
from clipvil.text.answer_table import AnswerTable, normalised
from tests.shared import shared

COUNTS = {"vqa": {"yes": 5, "Two.": 2, "the dog": 1}, "gqa": {"2": 1, "dog": 2, "zebra": 1, ".": 9}}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("A dog.", "dog"), ("an a dog", "a dog"), ("a the man", "man"), ("Grey", "gray"), ("TEN", "10"),
        ("dog..", "dog."), (" dog", " dog"), ("dog. ", "dog. "), ("dog .", "dog"), ("thecat", "thecat"),
        ("the", "the"), (".", ""), ("", ""), ("grey cat", "grey cat"), ("\u00c9t\u00e9.", "\u00e9t\u00e9"),
    ],
)  # fmt: skip
def test_the_rules_in_their_order(raw: str, expected: str) -> None:
    assert normalised(raw) == expected


def test_the_recorded_normalisation_and_transplant() -> None:
    recorded = json.loads(shared("fixtures", "clipvil_p", "answers.json").read_text())
    assert [normalised(one["raw"]) for one in recorded["normalisation"]] == [
        one["normalised"] for one in recorded["normalisation"]
    ]
    found = plan_transplant(AnswerTable.from_json(recorded["all_ans"]).answers, recorded["target_answers"])
    assert list(found.rows) == [one["table_row"] for one in recorded["transplant"]]
    assert (found.found, len(found.missing)) == (recorded["found"], recorded["missing"])


def test_a_transplant_counts_as_the_published_one(tmp_path: Path) -> None:
    """The proportions of VQA v2: 3,124 of 3,129 answers found, the empty string and a few odd ones missing."""
    table = AnswerTable([f"answer {i}" for i in range(9500)])
    wanted = [f"An answer {i}." for i in range(3124)]
    odd = ["", "visilab", "5 star", "1 4", "1 world"]
    found = plan_transplant(table.answers, [odd[0], *wanted, *odd[1:]])
    assert found.found == 3124
    assert found.missing == tuple(odd)
    assert found.rows[:3] == (None, 0, 1) and found.rows[-1] is None


def test_built_from_a_corpus() -> None:
    table = AnswerTable.build(COUNTS)
    assert table.answers == ("2", "dog", "yes", "zebra")
    assert table.sources == ({"vqa", "gqa"}, {"vqa", "gqa"}, {"vqa"}, {"gqa"})
    assert AnswerTable.build(COUNTS, top=2).answers == ("2", "yes")
    assert AnswerTable.build(COUNTS, min_count=2).answers == ("2", "dog", "yes")
    assert table.find("The DOG.") == 1 and table.find("horse") is None
    with pytest.raises(DataError, match="no answers to build"):
        AnswerTable.build({"vqa": {".": 3}})


def test_some_sources_are_numbered_anew(tmp_path: Path) -> None:
    AnswerTable.build(COUNTS).save(tmp_path / "all_ans.json")
    table = AnswerTable.load(tmp_path / "all_ans.json", sources=["vqa"])
    assert table.answers == ("2", "dog", "yes")
    assert AnswerTable.load(tmp_path / "all_ans.json").to_json() == AnswerTable.build(COUNTS).to_json()
    with pytest.raises(DataError, match="no answer of the table is from 'vg'; there are gqa, vqa"):
        table.only(["vg"])


def test_targets_are_drawn_in_proportion_to_their_scores() -> None:
    table = AnswerTable.build(COUNTS)
    labels = [("dog", 0.9), ("horse", 1.0), ("a dog", 0.3), ("zebra", 0.3), ("yes", 0.0)]
    assert table.targets(labels) == ((1, 0.9), (1, 0.3), (3, 0.3))
    draws = [table.draw(labels, np.random.default_rng(i)) for i in range(2000)]
    assert set(draws) == {1, 3}
    assert abs(draws.count(1) / 2000 - 0.8) < 0.03
    assert [table.draw(labels, np.random.default_rng(i)) for i in range(50)] == draws[:50]
    assert table.draw([("horse", 1.0)], np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as an answer table"),
        ('[{"ans": "a"', "cannot be read as an answer table"),
        ("{}", "must hold a list"),
        ("[]", "must hold a list"),
        ('[{"ans": "a", "dsets": []}, {"ans": 2, "dsets": []}]', "row 2, field 'ans': must be a string"),
        ('[{"ans": "a", "dsets": "vqa"}]', "row 1, field 'dsets': must be a list of names"),
        ('[{"ans": "a", "dsets": []}, {"ans": "a", "dsets": []}]', "row 2, field 'ans': .*already stands in row 1"),
        ("[3]", "row 1, field 'ans': must be a string"),
    ],
)
def test_faults_name_file_row_and_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=rf"t\.json.*{message}"):
        AnswerTable.load(tmp_path / "t.json")


@pytest.mark.parametrize("value", [None, [{"ans": "a"}], [{"dsets": []}], "x"])
def test_from_json_takes_nothing_else(value: Any) -> None:
    with pytest.raises(DataError):
        AnswerTable.from_json(value)
