"""Questions: true by construction (checked by an independent solver), fair, balanced and never about unseen pairs."""

from __future__ import annotations

from collections import Counter

import pytest

from clipvil.mini.questions import ANSWERS, KINDS, Asked, questions
from clipvil.mini.referring import Description, refer
from clipvil.mini.world import COLORS, HELD_OUT, SHAPES, Scene, scene, stream
from tests.mini.solver import matches, solve

PICTURES = 300


@pytest.fixture(scope="module", params=["train", "shifted"])
def asked(request: pytest.FixtureRequest) -> tuple[str, list[tuple[Scene, Asked]]]:
    split = request.param
    scenes = [scene(0, split, i) for i in range(PICTURES)]
    return split, [(each, question) for each in scenes for question in questions(each, 5, split=split)]


def test_answers_are_true_and_referents_unique(asked: tuple[str, list[tuple[Scene, Asked]]]) -> None:
    for each, question in asked[1]:
        assert solve(question.text, each) == question.answer, question.text
        assert question.answer in ANSWERS[question.family]


def test_five_different_questions_a_picture_the_same_every_time() -> None:
    for index in range(30):
        each = scene(0, "train", index)
        found = questions(each, 5)
        assert found == questions(each, 5)
        assert len({question.text for question in found}) == 5
        assert max(Counter(question.question_type for question in found).values()) <= 2


def test_every_kind_of_question_is_asked(asked: tuple[str, list[tuple[Scene, Asked]]]) -> None:
    types = Counter(question.question_type for _, question in asked[1])
    assert set(types) == {
        "is there a", "is the", "does the", "are there more", "how many", "what color is the", "what shape is the",
        "what pattern is on the", "what size is the", "what is in the", "what is",
    }  # fmt: skip
    assert len(KINDS) == len(types)
    assert min(types.values()) >= 0.01 * 5 * PICTURES


def test_answer_types_are_those_of_vqa_in_about_its_shares(asked: tuple[str, list[tuple[Scene, Asked]]]) -> None:
    shares = Counter(question.answer_type for _, question in asked[1])
    total = sum(shares.values())
    assert set(shares) == {"yes/no", "number", "other"}
    assert 0.33 < shares["yes/no"] / total < 0.48
    assert 0.10 < shares["number"] / total < 0.18


def test_yes_and_no_are_equally_likely_for_every_type(asked: tuple[str, list[tuple[Scene, Asked]]]) -> None:
    for kind in ("is there a", "is the", "does the", "are there more"):
        answers = Counter(question.answer for _, question in asked[1] if question.question_type == kind)
        share = answers["yes"] / sum(answers.values())
        # Four standard errors at the number of questions asked here.
        assert abs(share - 0.5) < 4 * (0.25 / sum(answers.values())) ** 0.5 + 0.03, (kind, answers)


def test_questions_of_the_training_splits_never_name_a_held_out_pair() -> None:
    for index in range(PICTURES):
        for question in questions(scene(0, "train", index), 5, split="train"):
            words = question.text.rstrip("?").replace("crosses", "cross").split()
            for here, following in zip(words, [*words[1:], ""], strict=True):
                shape = next((s for s in SHAPES if following in (s, s + "s")), None)
                assert not (here in COLORS and shape and (shape, here) in HELD_OUT), question.text


def test_questions_ask_what_closed_labels_leave_out(asked: tuple[str, list[tuple[Scene, Asked]]]) -> None:
    kinds = Counter(question.question_type for _, question in asked[1])
    beyond = ("what pattern is on the", "what is in the", "how many", "does the", "are there more", "what is")
    assert sum(kinds[kind] for kind in beyond) > 0.4 * sum(kinds.values())


def test_a_reference_fits_one_object_and_hides_what_it_must() -> None:
    rng = stream(0, "refer")
    found = 0
    for index in range(100):
        each = scene(0, "train", index)
        for thing in each.objects:
            description = refer(rng, each, thing, hidden=("color",))
            if description is not None:
                found += 1
                assert description.color is None
                assert matches(description.words(), each) == [thing]
    assert found > 200


def test_descriptions_read_as_english() -> None:
    assert Description(color="red", shape="cross").words(plural=True) == "red crosses"
    assert Description(size="small", texture="dotted").words() == "small dotted object"
