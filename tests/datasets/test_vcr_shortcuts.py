from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from clipvil.datasets.vcr_shortcuts import overlap, rewrite, write_shortcuts
from clipvil.errors import DataError
from tests.datasets.vcr_files import vcr_row, write_vcr


def row(question: list[Any], answers: list[list[Any]], label: int = 0, objects: str = "ppppc") -> dict[str, Any]:
    names = {"p": "person", "c": "car"}
    return vcr_row(
        objects=[names[letter] for letter in objects], question=question, answer_choices=answers, answer_label=label,
        rationale_choices=[["No", "."]] * 4, rationale_label=0,
    )  # fmt: skip


def rewritten(rule: str, *args: Any, **kwargs: Any) -> list[list[Any]]:
    found = rewrite(row(*args, **kwargs), rule)
    assert found is not None
    return list(found[0]["answer_choices"])


def test_the_published_example() -> None:
    """val-54; its tags count from 1 in print, from 0 in the file."""
    answers = [
        [[1], "is", "going", "into", "the", "store", "."], [[0], "is", "going", "to", "the", "bathroom", "."],
        ["Home", "."], [[0], "and", [1], "stay", "."],
    ]  # fmt: skip
    assert rewritten("rule_singular", ["Where", "is", [1], "going", "?"], answers) == [
        ["He", "is", "going", "into", "the", "store", "."], [[1], "is", "going", "to", "the", "bathroom", "."],
        ["Home", "."], [[0], "and", [1], "stay", "."],
    ]  # fmt: skip


def test_pronouns_go_by_the_majority_and_wrong_ones_become_the_tag() -> None:
    answers = [
        ["Because", [1], "lost", "her", "bag", "."], ["She", "waits", "."], ["he", "and", "she", "wait", "."],
        [[2], "says", "he", "waits", "."],
    ]  # fmt: skip
    assert rewritten("rule_singular", ["Why", "is", [1], "sad", "?"], answers) == [
        ["Because", "she", "lost", "her", "bag", "."], [[1], "waits", "."], ["he", "and", "she", "wait", "."],
        [[2], "says", "he", "waits", "."],
    ]  # fmt: skip
    # The choice says neither, so that the question counts too.
    answers = [[[1], "does", "."], ["No", "."], ["No", "."], ["No", "."]]
    assert rewritten("rule_singular", ["Does", [1], "know", "her", "?"], answers)[0] == ["She", "does", "."]


def test_other_things_are_no_persons_and_mixed_lists_stay() -> None:
    question = ["Why", "is", [1], "near", [4], "?"]
    answers = [[[4], "belongs", "to", [1], "."], [[1, 4], "fit", "."], [[4], "is", "his", "."], [[3], "left", [4], "."]]
    assert rewritten("rule_singular", question, answers) == [
        [[4], "belongs", "to", "he", "."], [[1, 4], "fit", "."], [[4], "is", "his", "."], [[1], "left", [4], "."]
    ]  # fmt: skip
    assert rewrite(row(["Who", "?"], answers), "rule_singular") is None
    assert rewrite(row(["Do", [0], "and", [1], "talk", "?"], answers), "rule_singular") is None


def test_groups_change_places_with_they() -> None:
    answers = [
        [[0, 1], "wait", "."], ["They", "eat", "."], ["So", [2, 3], "run", "and", "they", "fall", "."],
        [[2], "runs", "."],
    ]  # fmt: skip
    assert rewritten("rule_plural", ["What", "do", [1, 0], "do", "?"], answers) == [
        ["They", "wait", "."], [[0, 1], "eat", "."], ["So", [0, 1], "run", "and", [0, 1], "fall", "."],
        [[2], "runs", "."],
    ]  # fmt: skip
    for question in (["Who", [1], "?"], ["Do", [0, 1], "see", [2], "?"], ["Are", [0, 4], "red", "?"]):
        assert rewrite(row(question, answers), "rule_plural") is None


def test_the_command_writes_both_sets_and_says_what_tags_give_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plural = row(
        ["What", "do", [0, 1], "do", "?"], [[[0, 1], "wait", "."], ["They", "eat", "."], ["No", "."], ["Go", "."]]
    )
    path = write_vcr(tmp_path, [vcr_row(0), {**plural, "annot_id": "val-1"}])
    assert main(["vcr", "shortcuts", str(path), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "val_rule_singular.jsonl: 1 of 2 questions, 3 answers and 2 rationales" in said
    (kept,) = (tmp_path / "out/val_rule_singular.jsonl").read_text().splitlines()
    assert json.loads(kept)["answer_choices"][1][0] == "He"
    assert json.loads(kept)["annot_id"] == "val-0"
    # In the file: {1} against {0}, {1}, {2}, {0, 1}, where two share it; of the second the answer shares most, alone.
    before = overlap(path)
    assert (before.n, before.largest, before.score) == (2, 100.0, 75.0)
    assert overlap(tmp_path / "out/val_rule_singular.jsonl").score == 0


def test_files_that_give_no_set_are_refused(tmp_path: Path) -> None:
    path = write_vcr(tmp_path, [vcr_row(answer_label=None)])
    with pytest.raises(DataError, match=r"row 1, field 'answer_label': is missing"):
        write_shortcuts(path, tmp_path)
    path = write_vcr(tmp_path, [vcr_row(question=["Why", "?"])])
    with pytest.raises(DataError, match="no question that rule_singular keeps"):
        write_shortcuts(path, tmp_path)
