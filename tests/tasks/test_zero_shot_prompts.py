from __future__ import annotations

import pytest

from clipvil.tasks.zero_shot_prompts import (
    PROMPTS,
    Candidates,
    count_seen,
    form_of_answer,
    form_of_question,
)

ANSWERS = ("yes", "no", "2", "red", "two", "1", "12:30", "net", "left")


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("Is there a dog?", "yes/no"),
        ("ARE the lights on ?", "yes/no"),
        ("Doesn't it rain?", "yes/no"),
        ("Is this a cat or a dog?", "other"),
        ("How many dogs are there?", "number"),
        ("how many", "other"),
        ("What number of legs does it have?", "number"),
        ("What color is the dog?", "other"),
        ("", "other"),
    ],
)
def test_the_form_of_a_question_is_told_from_its_words(question: str, form: str) -> None:
    assert form_of_question(question) == form


def test_the_form_of_an_answer() -> None:
    forms = ["yes/no", "yes/no", "number", "other", "number", "number", "number", "other", "other"]
    assert [form_of_answer(answer) for answer in ANSWERS] == forms


@pytest.mark.parametrize(
    ("prompt", "question", "answer", "text"),
    [
        ("authors", "What color is it?", "red", "What color is it? red"),
        ("authors", "How many?", "2", "How many? 2"),
        ("labelled", "How many?", "2", "question: How many? answer: two"),
        ("labelled", "What year?", "1987", "question: What year? answer: 1987"),
        ("labelled", "What?", "9" * 5000, "question: What? answer: " + "9" * 5000),
        ("statement", "Is there a red star?", "yes", "a red star"),
        ("statement", "Is there a red star?", "no", "no red star"),
        ("statement", "Are the stars red?", "yes", "the stars red"),
        ("statement", "Are the stars red?", "no", "not the stars red"),
        ("statement", "How many red stars are there?", "2", "two red stars"),
        ("statement", "How many people are wearing hats?", "3", "three people"),
        ("statement", "What color is the large star?", "red", "red large star"),
        ("statement", "What is the color of the bus?", "red", "red bus"),
        ("statement", "What shape is the red object?", "star", "red star"),
        ("statement", "What is left of the star?", "ring", "ring left of the star"),
        ("statement", "Where is the dog?", "left", "the dog left"),
        ("statement", "Why is he smiling?", "happy", "why is he smiling happy"),
    ],
)
def test_prompts_as_documented(prompt: str, question: str, answer: str, text: str) -> None:
    assert PROMPTS[prompt](question, answer) == text


def test_candidates_are_all_or_those_of_the_form() -> None:
    everything = list(range(len(ANSWERS)))
    assert Candidates("all", ANSWERS)("Is it red?") == everything
    by_form = Candidates("form", ANSWERS)
    assert by_form("Is it red?") == [0, 1]
    assert by_form("How many are red?") == [2, 4, 5, 6]
    assert by_form("What is red?") == [3, 7, 8]
    assert Candidates("form", ("red", "blue"))("Is it red?") == [0, 1]  # a list without yes and no


def test_candidates_seen_with_the_first_two_words() -> None:
    places = {answer: place for place, answer in enumerate(ANSWERS)}
    asked = [
        ("What color is it?", ["red", "red", "net"]),
        ("What color are they?", ["red"]),
        ("what  COLOR was that?", ["blue", "net"]),
        ("Is it red?", ["yes", "yes"]),
    ]
    seen = count_seen(asked, places)
    assert seen == {"is it": [], "what color": [3, 7]}
    chosen = Candidates("seen", ANSWERS, seen)
    assert chosen("What color is the sky?") == [3, 7]
    assert chosen("Is it blue?") == chosen("Why?") == list(range(len(ANSWERS)))  # nothing seen often enough
