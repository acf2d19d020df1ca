from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from clipvil.compare import baselines as rooms
from clipvil.compare.baselines import baselines, guesses
from clipvil.metrics.vqa import Mode, question_accuracy
from clipvil.metrics.vqa_normalise import simple_word
from clipvil.records import Question
from clipvil.text.answers import AnswerVocabulary

KINDS = {"yes/no": ("yes", "no"), "number": ("1", "2", "3"), "other": ("red", "blue", "a ring", "dont")}
TYPES = {"yes/no": ("is it", "is there"), "number": ("how many",), "other": ("what is", "what color")}


def corpus(n: int, seed: int, *, typed: bool = True) -> list[Question]:
    """Questions whose ten annotators do not agree, and now and then give an answer of another type."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        kind = list(KINDS)[int(rng.integers(3))]
        asked = TYPES[kind][int(rng.integers(len(TYPES[kind])))]
        pool = [*KINDS[kind], *KINDS[kind], "yes", "Red.", "don't"]
        main = KINDS[kind][int(rng.integers(len(KINDS[kind])) ** 2 % len(KINDS[kind]))]
        given = tuple(main if rng.random() < 0.6 else pool[int(rng.integers(len(pool)))] for _ in range(10))
        out.append(
            Question(str(i), str(i // 3), f"{asked} number {i}?", given, kind if typed else "", asked if typed else "")
        )
    return out


TRAIN, TEST = corpus(400, 0), corpus(150, 1)


@pytest.mark.parametrize("mode", ["official", "lenient"])
def test_chance_is_the_mean_over_every_answer_of_the_list(mode: Mode) -> None:
    answers = AnswerVocabulary.build(q.answers for q in TRAIN).answers[1:]
    found = {guess.name: guess.scores for guess in guesses(TRAIN, TEST, answers, mode)}
    given = Counter((simple_word(a), q.answer_type) for q in TRAIN for a in q.answers)
    kinds = {answer: max(KINDS, key=lambda kind: given[answer, kind]) for answer in answers}
    assert kinds["2"] == "number" and kinds["red"] == "other"
    for question in TEST:
        scores = {answer: question_accuracy(answer, question.answers, mode) for answer in answers}
        expected = np.mean(list(scores.values()))
        assert found[rooms.CHANCE][question.question_id] == pytest.approx(expected)
        mine = [scores[a] for a in answers if kinds[a] == question.answer_type]
        assert found[rooms.CHANCE_OF_TYPE][question.question_id] == pytest.approx(np.mean(mine))


def test_majorities_are_constant_answers_counted_in_training() -> None:
    answers = AnswerVocabulary.build(q.answers for q in TRAIN).answers[1:]
    found = {guess.name: guess.scores for guess in guesses(TRAIN, TEST, answers, "official")}
    overall = answers[0]  # the list is sorted by frequency
    for question in TEST:
        assert found[rooms.MAJORITY][question.question_id] == question_accuracy(overall, question.answers)
    for name, heading in ((rooms.MAJORITY_OF_TYPE, "answer_type"), (rooms.MAJORITY_OF_QUESTION, "question_type")):
        for group in {getattr(q, heading) for q in TEST}:
            mine = [q for q in TEST if getattr(q, heading) == group]
            best = AnswerVocabulary.build(q.answers for q in TRAIN if getattr(q, heading) == group).answers[1]
            for question in mine:
                assert found[name][question.question_id] == question_accuracy(best, question.answers)


def test_rows_have_intervals_and_the_breakdowns_of_the_task() -> None:
    rows = baselines("vqa", "test", TRAIN, TEST, None, "official")
    assert [row.name for row in rows] == [
        rooms.CHANCE, rooms.CHANCE_OF_TYPE, rooms.MAJORITY, rooms.MAJORITY_OF_TYPE, rooms.MAJORITY_OF_QUESTION,
    ]  # fmt: skip
    for row in rows:
        assert (row.task, row.split, row.mean.n) == ("vqa", "test", len(TEST))
        assert row.mean.low < row.mean.value < row.mean.high
        kinds = row.breakdowns["answer_type"]
        assert set(kinds) == set(KINDS)
        assert sum(k.value * k.n for k in kinds.values()) / len(TEST) == pytest.approx(row.mean.value)
    by_name = {row.name: row.mean.value for row in rows}
    assert by_name[rooms.CHANCE] < by_name[rooms.CHANCE_OF_TYPE] < by_name[rooms.MAJORITY_OF_TYPE]


def test_a_corpus_without_types_goes_by_the_words() -> None:
    rows = baselines("vqa", "test", corpus(200, 0, typed=False), corpus(60, 1, typed=False), None, "lenient")
    assert [row.name for row in rows] == [
        rooms.CHANCE, rooms.CHANCE_OF_TYPE, rooms.MAJORITY, rooms.MAJORITY_OF_TYPE,
    ]  # fmt: skip
    values = {row.name: row.mean.value for row in rows}
    assert values[rooms.MAJORITY_OF_TYPE] > values[rooms.MAJORITY] + 10
    assert all(row.breakdowns == {} for row in rows)


def test_one_picture_has_the_whole_scale_for_an_interval() -> None:
    rows = baselines("vqa", "test", TRAIN, TEST[:3], None, "official")
    assert all((row.mean.low, row.mean.high) == (0.0, 100.0) for row in rows)
