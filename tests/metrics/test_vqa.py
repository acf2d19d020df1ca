from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.errors import DataError, UsageError
from clipvil.metrics.vqa import (
    compared_strings,
    extend_to_ten,
    question_accuracy,
    round_half_away,
    vqa_accuracy,
)
from clipvil.records import Question
from tests.shared import shared

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vqa_eval.json").read_text(encoding="utf-8"))["rows"]


def question(row: dict[str, Any]) -> Question:
    return Question(
        str(row["question_id"]),
        "1",
        "?",
        tuple(row["annotator_answers"]),
        row["answer_type"],
        row["question_type"],
    )


def ask(key: str, *answers: str, answer_type: str = "", question_type: str = "") -> Question:
    return Question(key, "1", "?", answers, answer_type, question_type)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: str(row["question_id"]))
def test_recorded_rows(row: dict[str, Any]) -> None:
    assert compared_strings(row["prediction"], row["annotator_answers"]) == (
        row["compared"],
        row["annotators_compared"],
    )
    assert round(question_accuracy(row["prediction"], row["annotator_answers"]), 12) == row["accuracy"]
    evalai = question_accuracy(row["prediction"], row["annotator_answers"], "evalai")
    assert evalai == pytest.approx(100 * row["evalai_style_accuracy"], abs=1e-9)


def test_all_600_recorded_questions_and_the_totals() -> None:
    recorded = json.loads(shared("fixtures", "vqa_eval", "cases.json").read_text(encoding="utf-8"))
    rows = recorded["rows"]
    result = vqa_accuracy({str(row["question_id"]): row["prediction"] for row in rows}, map(question, rows))
    for row in rows:
        said, heard = compared_strings(row["prediction"], row["annotator_answers"])
        assert (said, heard) == (row["compared"], row["annotators_compared"])
        assert round(result.per_question[str(row["question_id"])], 12) == row["accuracy_precise"]
        evalai = question_accuracy(row["prediction"], row["annotator_answers"], "evalai")
        assert evalai == pytest.approx(100 * row["evalai_style_accuracy"], abs=1e-9)
    names = {"overall": "overall", "perAnswerType": "per_answer_type", "perQuestionType": "per_question_type"}
    assert result.rounded() == {own: recorded["accuracy_rounded"][official] for official, own in names.items()}
    assert round(result.overall, 12) == recorded["accuracy_precise"]["overall"]
    precise = {group: round(value, 12) for group, value in result.per_question_type.items()}
    assert precise == recorded["accuracy_precise"]["perQuestionType"]


@pytest.mark.parametrize(("votes", "expected"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (10, 100)])
def test_votes_of_ten(votes: int, expected: float) -> None:
    answers = ["red"] * votes + [f"other {i}" for i in range(10 - votes)]
    for mode in ("official", "lenient", "evalai"):
        assert question_accuracy("red", answers, mode) == pytest.approx(expected, abs=1e-9)


def test_nothing_is_normalised_when_all_annotators_agree() -> None:
    assert question_accuracy("Yes", ["yes"] * 10) == 0
    assert question_accuracy("Yes", ["yes"] * 10, "lenient") == 100
    assert question_accuracy("Yes", ["yes"] * 9 + ["no"]) == 100


def test_few_answers_count_as_repeated_in_lenient_mode_and_are_refused_officially() -> None:
    assert question_accuracy("the Red.", ["red"], "lenient") == 100
    assert question_accuracy("blue", ["red"], "lenient") == 0
    assert question_accuracy("red", ["red", "crimson"], "lenient") == 100
    with pytest.raises(DataError, match=r"needs ten annotators .* found 3; use the mode 'lenient'"):
        question_accuracy("red", ["red", "red", "blue"])
    with pytest.raises(DataError, match="without answers"):
        question_accuracy("red", [], "lenient")
    with pytest.raises(UsageError, match="unknown metric mode 'odd'"):
        question_accuracy("red", ["red"] * 10, "odd")  # type: ignore[arg-type]


def test_extend_in_a_circle() -> None:
    assert extend_to_ten(["a", "b", "c"]) == list("abcabcabca")
    assert extend_to_ten([]) == []
    assert extend_to_ten(list("abcdefghijkl")) == list("abcdefghijkl")


def test_groups_are_means_of_their_questions() -> None:
    questions = [
        ask("1", *["yes"] * 10, answer_type="yes/no", question_type="is the"),
        ask("2", *["no"] * 10, answer_type="yes/no", question_type="are there"),
        ask("3", *["2"] * 10, answer_type="number", question_type="how many"),
        ask("4", *["2"] * 10),
    ]
    result = vqa_accuracy({"1": "yes", "2": "yes", "3": "2", "4": "2"}, questions)
    assert result.overall == 75
    assert result.per_answer_type == {"yes/no": 50, "number": 100}
    assert result.per_question_type == {"is the": 100, "are there": 0, "how many": 100}
    assert result.per_question == {"1": 100, "2": 0, "3": 100, "4": 100}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"1": "yes"}, "no prediction for question 2"),
        ({"1": "yes", "2": "no", "7": "no"}, "prediction for question 7, which is not among"),
    ],
)
def test_every_question_needs_exactly_one_prediction(said: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        vqa_accuracy(said, [ask("1", *["yes"] * 10), ask("2", *["yes"] * 10)])


def test_questions_that_cannot_be_scored_are_named() -> None:
    with pytest.raises(DataError, match="question 2: a question without answers"):
        vqa_accuracy({"1": "a", "2": "b"}, [ask("1", *["a"] * 10), ask("2")])
    with pytest.raises(DataError, match="question 1 comes twice"):
        vqa_accuracy({"1": "a"}, [ask("1", *["a"] * 10)] * 2)
    with pytest.raises(DataError, match="no questions"):
        vqa_accuracy({}, [])


@pytest.mark.parametrize(("value", "expected"), [(0.125, 0.13), (-0.125, -0.13), (2.675, 2.67), (78.533333, 78.53)])
def test_rounding_as_python_2_did(value: float, expected: float) -> None:
    assert round_half_away(value) == expected


def _slow_accuracy(said: str, answers: Sequence[str]) -> float:
    """The definition, spelled out."""
    scores = []
    for left_out in range(len(answers)):
        others = [a for i, a in enumerate(answers) if i != left_out]
        scores.append(min(1, sum(a == said for a in others) / 3))
    return 100 * sum(scores) / len(scores)


@given(
    st.lists(st.sampled_from(["red", "blue", "green"]), min_size=4, max_size=12), st.sampled_from(["red", "blue", "x"])
)
def test_equals_the_definition(answers: list[str], said: str) -> None:
    assert question_accuracy(said, answers) == pytest.approx(_slow_accuracy(said, answers), abs=1e-9)


SAID = st.sampled_from(
    ["yes", "Yes", "yes ", "no", "a cat", "cat", "cat.", "1,000", "2", "two", "", "dont", "\tred-ish"]
)


@given(
    st.lists(st.tuples(SAID, st.lists(SAID, min_size=4, max_size=13), st.sampled_from(["", "a", "b"])), min_size=1),
    st.sampled_from(["official", "lenient", "exact", "evalai"]),
)
def test_many_at_once_are_each_alone_to_the_last_bit(rows: list[tuple[str, list[str], str]], mode: Any) -> None:
    asked = [ask(str(i), *answers, answer_type=kind) for i, (_, answers, kind) in enumerate(rows)]
    result = vqa_accuracy({str(i): said for i, (said, _, _) in enumerate(rows)}, asked, mode)
    alone = [question_accuracy(said, answers, mode) for said, answers, _ in rows]
    assert list(result.per_question.values()) == alone
    total = 0.0
    for value in alone:
        total += value / 100.0
    assert result.overall == pytest.approx(100.0 * total / len(alone), abs=1e-9)
    assert list(result.per_answer_type) == list(dict.fromkeys(kind for _, _, kind in rows if kind))


def test_more_than_eight_times_eight_annotators() -> None:
    answers = ["red"] * 2 + ["blue"] * 70
    result = vqa_accuracy({"1": "red", "2": "blue"}, [ask("1", *answers), ask("2", *answers)])
    assert result.per_question["1"] == question_accuracy("red", answers)
    assert result.per_question["2"] == 100


def test_exact_compares_letter_by_letter() -> None:
    assert question_accuracy("Yes", ["yes"], "exact") == 0
    assert question_accuracy("the cat", ["cat"], "exact") == 0
    assert question_accuracy("the cat", ["cat"], "lenient") == 100
    assert question_accuracy("cat", ["cat"], "exact") == 100
