"""Ten annotators who mostly agree."""

from __future__ import annotations

from collections import Counter

import pytest

from clipvil.mini.annotators import ERROR_RATE, SYNONYM_RATE, SYNONYMS, annotate
from clipvil.mini.questions import ANSWERS, Asked
from clipvil.mini.world import stream

COLOR = Asked("What color is the star?", "what color is the", "purple", "color")
NUMBER = Asked("How many stars are there?", "how many", "0", "number")
YES = Asked("Is there a star?", "is there a", "yes", "yes/no")


def given(asked: Asked, n: int = 400) -> list[list[dict[str, object]]]:
    return [annotate(stream(0, "annotators", i), asked) for i in range(n)]


@pytest.mark.parametrize("asked", [COLOR, NUMBER, YES])
def test_ten_answers_in_the_form_of_vqa(asked: Asked) -> None:
    for answers in given(asked, 50):
        assert [answer["answer_id"] for answer in answers] == list(range(1, 11))
        assert {answer["answer_confidence"] for answer in answers} <= {"yes", "maybe", "no"}
        assert Counter(answer["answer"] for answer in answers).most_common(1)[0][0] == asked.answer


def test_synonyms_and_errors_come_at_the_documented_rates() -> None:
    words = Counter(answer["answer"] for answers in given(COLOR) for answer in answers)
    total = sum(words.values())
    assert words["violet"] / total == pytest.approx((1 - ERROR_RATE) * SYNONYM_RATE, abs=0.02)
    wrong = total - words["purple"] - words["violet"]
    assert wrong / total == pytest.approx(ERROR_RATE, abs=0.02)
    assert set(words) <= {*ANSWERS["color"], "violet"}


def test_numbers_are_miscounted_by_one_and_sometimes_spelt_out() -> None:
    assert {answer["answer"] for answers in given(NUMBER) for answer in answers} == {"0", "1", "zero"}


def test_yes_has_no_synonym() -> None:
    assert {answer["answer"] for answers in given(YES) for answer in answers} == {"yes", "no"}


def test_who_errs_is_less_sure() -> None:
    sure = Counter(
        (answer["answer"] == "yes", answer["answer_confidence"]) for answers in given(YES) for answer in answers
    )
    assert sure[(False, "yes")] == 0
    assert sure[(True, "yes")] > sure[(True, "maybe")] > 0


def test_a_synonym_is_never_another_answer() -> None:
    everything = {answer for family in ANSWERS.values() for answer in family}
    assert not everything & set(SYNONYMS.values())
    assert set(SYNONYMS) <= everything
