from __future__ import annotations

import pytest

from clipvil.compare import wording
from clipvil.compare.results import Interval
from tests.compare.builder import build

M = wording.MINUS


@pytest.mark.parametrize(
    ("value", "text"), [(71.34, "71.3"), (-0.04, "0.0"), (0.04, "0.0"), (-3.25, f"{M}3.2"), (100.0, "100.0")]
)
def test_scores_have_one_decimal_and_zero_has_no_sign(value: float, text: str) -> None:
    assert wording.score(value) == text


@pytest.mark.parametrize(("value", "text"), [(4.21, "+4.2"), (-4.21, f"{M}4.2"), (0.01, "0.0"), (-0.01, "0.0")])
def test_differences_carry_their_sign(value: float, text: str) -> None:
    assert wording.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (8, "8"), (0.5, "0.5"), (412.0, "412"), (8960, "9.0 k"), (1_062_144, "1.1 M"), (2.5e8, "250 M")],
)
def test_counts(value: float | None, text: str) -> None:
    assert wording.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (4.26, "4.3 s"), (41.5, "42 s"), (190, "3 min 10 s"), (3700, "1 h 01 min")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


def test_p_values_claim_no_more_than_the_draws_give() -> None:
    assert [wording.p_value(p) for p in (0.0005, 0.012, 0.14, 1.0)] == ["< 0.001", "0.012", "0.14", "1.00"]


def test_an_interval_puts_the_unit_behind_the_value() -> None:
    assert wording.interval(Interval(value=71.3, low=70.2, high=72.4, n=5), " %") == "71.3 % [70.2, 72.4]"


def test_the_finding_of_a_clear_lead() -> None:
    results = build({"a": (70.0,), "b": (60.0,), "question-only": (40.0,)}, splits=("test",))
    assert wording.finding(results, results.tasks[0]) == (
        "a scores 70.0 % [68.9, 71.1] on the test split, 10.0 points above b [8.5, 11.5]; "
        "that is 30.0 points above question-only [28.5, 31.5], which sees no picture."
    )


def test_a_lead_within_chance_is_not_called_a_lead() -> None:
    results = build({"a": (60.0,), "b": (60.4,), "question-only": (59.9,)}, splits=("test",))
    said = wording.finding(results, results.tasks[0])
    assert f"b (60.4 %) and a (60.0 %) cannot be told apart on the test split: difference +0.4 [{M}1.1, 1.9]" in said
    assert "not distinguishable from question-only" in said


def test_an_encoder_below_the_floor_is_said_to_be_below() -> None:
    results = build({"a": (30.0,), "question-only": (40.0,)}, splits=("test",))
    assert "10.0 points below question-only [8.5, 11.5]" in wording.finding(results, results.tasks[0])


def test_the_shifted_split_may_turn_the_order_round() -> None:
    results = build({"a": (70.0, 50.0), "b": (60.0, 55.0)})
    assert wording.shift_finding(results, results.tasks[0]) == (
        "On the shifted split a scores 50.0 % [48.9, 51.1], 5.0 points below b [3.5, 6.5]."
    )


def test_nothing_finished_is_said_so() -> None:
    results = build({})
    assert wording.finding(results, results.tasks[0]) == "No encoder has finished on vqa yet."
    assert wording.shift_finding(results, results.tasks[0]) == ""


def test_the_terminal_sentence_of_a_difference() -> None:
    results = build()
    pair = results.difference("vqa", "test", "mini/contrastive", "mini/random")
    assert pair is not None
    assert wording.difference_line(pair) == "mini/contrastive - mini/random: +21.3 [19.8, 22.8]"
    assert wording.difference_line(pair.flipped()) == "mini/random - mini/contrastive: -21.3 [-22.8, -19.8]"
    doubtful = results.difference("vqa", "shifted", "mini/contrastive", "mini/annotated")
    assert doubtful is not None and "could be chance" in wording.difference_line(doubtful)
