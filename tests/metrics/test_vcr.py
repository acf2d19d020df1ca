from __future__ import annotations

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.metrics.vcr import ANSWER, JOINT, RATIONALE, Gold, Said, choice, vcr_scores


def one_hot(place: int) -> tuple[float, ...]:
    return tuple(float(place == other) for other in range(4))


def said(answer: int, rationale: int, given: int) -> Said:
    """Right under one condition alone: under the others the next rationale is chosen."""
    return Said(one_hot(answer), {a: one_hot(rationale if a == given else (rationale + 1) % 4) for a in range(4)})


def test_joint_is_both_and_no_product() -> None:
    gold = {key: Gold(key, 1, 2) for key in "abcd"}
    # Answers right: a, b. Rationales right: a, b. The product would be 25 %.
    result = vcr_scores({"a": said(1, 2, 1), "b": said(1, 2, 1), "c": said(0, 3, 1), "d": said(0, 3, 1)}, gold)
    assert {name: found.value for name, found in result.measured.items()} == {ANSWER: 50, RATIONALE: 50, JOINT: 50}
    result = vcr_scores({"a": said(1, 3, 1), "b": said(1, 3, 1), "c": said(0, 2, 1), "d": said(0, 2, 1)}, gold)
    assert result.measured[JOINT].value == 0
    assert result.per_record["c"] == {ANSWER: 0, RATIONALE: 100, JOINT: 0}
    assert result.main == JOINT
    assert result.measured[JOINT].n == 4


def test_the_rationale_is_read_under_the_right_answer_whatever_was_chosen() -> None:
    gold = {"a": Gold("p", 1, 2)}
    wrong_answer = vcr_scores({"a": said(0, 2, 1)}, gold)
    assert wrong_answer.measured[RATIONALE].value == 100
    under_another = vcr_scores({"a": said(1, 2, 0)}, gold)
    assert under_another.measured[RATIONALE].value == 0


@pytest.mark.parametrize("scores", [(0.25,) * 4, (0.1, 0.4, 0.4, 0.1), (0.0, -1.0, -0.0, 0.0), (1e-9, 0, 0, 1e-9)])
def test_of_equal_scores_the_first_is_chosen_as_numpy_does(scores: tuple[float, ...]) -> None:
    assert choice(scores) == int(np.argmax(scores))


def test_one_subtask_alone_is_judged_alone() -> None:
    gold = {"a": Gold("p", 1, None), "b": Gold("q", 0, None)}
    result = vcr_scores({"a": Said(one_hot(1)), "b": Said(one_hot(1))}, gold)
    assert list(result.measured) == [ANSWER]
    assert result.measured[ANSWER].value == 50
    assert 0 <= result.measured[ANSWER].low <= 50 <= result.measured[ANSWER].high <= 100


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({"a": Said(one_hot(0))}, "1 questions are not answered: b"),
        ({"a": Said(one_hot(0)), "b": Said(one_hot(0)), "c": Said(one_hot(0))}, "1 answers belong to no question: c"),
        ({"a": Said(), "b": Said()}, "neither answers nor rationales"),
        (
            {"a": said(0, 0, 0), "b": Said(one_hot(0), {0: one_hot(0)})},
            "question b is not given a rationale to answer 1",
        ),
        ({"a": Said((0.0, 1.0, float("nan"), 0.0)), "b": Said(one_hot(0))}, "question a: the scores must be 4 finite"),
    ],
)
def test_what_cannot_be_judged_is_named(predictions: dict[str, Said], message: str) -> None:
    with pytest.raises(DataError, match=message):
        vcr_scores(predictions, {"a": Gold("p", 0, 0), "b": Gold("q", 1, 1)})
