"""The recorded numbers are worked out by hand from the published definitions; each case shows one rule or quirk."""

from __future__ import annotations

import random

import pytest

from clipvil.errors import DataError, UsageError
from clipvil.metrics.gqa import Choices, GqaMode, GqaQuestion, count_steps, gqa_scores, grounding_score, map_cells

MODES: tuple[GqaMode, ...] = ("official", "lenient")


def ask(key: str, answer: str, structural: str = "query", **fields: object) -> GqaQuestion:
    return GqaQuestion(key, f"p{key}", answer, structural=structural, semantic="obj", **fields)  # type: ignore[arg-type]


def table(*questions: GqaQuestion) -> dict[str, GqaQuestion]:
    return {question.question_id: question for question in questions}


ASKED = table(
    ask("1", "cup", group="thing", steps=2, lenient_steps=3, words=5),
    ask("2", "dog", group="thing", steps=2, lenient_steps=2, words=11),
    ask("3", "yes", "verify", steps=10, lenient_steps=1, words=5),
    GqaQuestion("4", "p4", "no", balanced=False),
)


def test_accuracy_over_the_balanced_questions_alone() -> None:
    for mode in MODES:
        result = gqa_scores({"1": "cup", "2": "cat", "3": "no"}, ASKED, mode)
        assert result.scores["accuracy"] == pytest.approx(100 / 3)
        assert result.scores["open"] == 50
        assert result.scores["binary"] == 0
        assert result.per_question == {"1": 100, "2": 0, "3": 0}
        assert result.breakdown("structural_type") == {"query": 50, "verify": 0}
        assert result.breakdown("semantic_type") == {"obj": pytest.approx(100 / 3)}
        assert result.breakdown("words") == {"5": 50, "11": 0}
    assert list(gqa_scores({"1": "cup", "2": "cat", "3": "no"}, ASKED).breakdown("steps")) == ["2", "10"]


def test_letters_count_under_official_only() -> None:
    said = {"1": "Cup ", "2": "dog", "3": "yes"}
    assert gqa_scores(said, ASKED).scores["accuracy"] == pytest.approx(200 / 3)
    assert gqa_scores(said, ASKED, "lenient").scores["accuracy"] == 100


def test_the_mean_of_nothing_is_zero_or_not_computed() -> None:
    asked = table(ask("1", "cup"))
    official, lenient = (gqa_scores({"1": "cup"}, asked, mode) for mode in MODES)
    assert official.scores["binary"] == 0
    assert official.scores["consistency"] == 0
    assert lenient.not_computed["binary"] == "no binary questions"
    assert "consistency" in lenient.not_computed
    for result in (official, lenient):
        assert result.not_computed["distribution"] == "no question belongs to a global group"


def test_distribution_is_chi_square_over_a_hundred_weighted_by_group() -> None:
    asked = table(
        *(ask(f"a{i}", answer, group="colour") for i, answer in enumerate(["red", "red", "blue"])),
        ask("b", "oak", group="tree"),
        ask("c", "x"),
    )
    said = {"a0": "red", "a1": "green", "a2": "green", "b": "oak", "c": "y"}
    # colour: red (1 - 2)^2 / 2 and blue (0 - 1)^2 / 1, that is 1.5 for 3 questions; tree: 0 for one. "green" is no
    # right answer of the group, so it counts for nothing.
    assert gqa_scores(said, asked).scores["distribution"] == pytest.approx(1.5 * 3 / 4 / 100)
    # Lenient: of three colours two are misplaced.
    assert gqa_scores(said, asked, "lenient").scores["distribution"] == pytest.approx(2 / 4)


ENTAILING = table(
    ask("1", "cup", entailed=("1", "2", "4")),
    ask("2", "dog", entailed=("2",)),
    ask("3", "yes", entailed=("4",)),
    GqaQuestion("4", "p4", "no", balanced=False),
)


def test_consistency_of_what_was_answered_correctly() -> None:
    said = {"1": "cup", "2": "dog", "3": "wrong", "4": "yes"}
    for mode in MODES:
        # Only question 1 is right and entails others: 2 is right, 4 is wrong. Question 2 entails only itself.
        assert gqa_scores(said, ENTAILING, mode).scores["consistency"] == 50


def test_consistency_needs_all_questions_and_answers_under_official() -> None:
    said = {"1": "cup", "2": "dog", "3": "wrong"}
    result = gqa_scores(said, ENTAILING)
    assert "consistency" not in result.scores
    assert result.not_computed["consistency"] == "1 questions are not answered (4)"
    with pytest.raises(DataError, match=r"consistency cannot be computed: 1 questions are not answered \(4\)"):
        gqa_scores(said, ENTAILING, consistency=True)
    assert gqa_scores(said, ENTAILING, consistency=False).not_computed["consistency"] == "not asked for"
    fewer = {key: question for key, question in ENTAILING.items() if key != "4"}
    assert (
        "1 entailed questions are not in the questions file (4)" in gqa_scores(said, fewer).not_computed["consistency"]
    )
    assert gqa_scores(said, fewer, "lenient").scores["consistency"] == 100


def test_validity_and_plausibility() -> None:
    asked = table(ask("1", "cup"), ask("2", "color", detailed="twoCommon"))
    choices = {
        "1": Choices(frozenset(("cup", "mug")), frozenset(("cup",))),
        "2": Choices(frozenset(("size",)), frozenset(("size",))),
    }
    said = {"1": "mug", "2": "shape"}
    official, lenient = (gqa_scores(said, asked, mode, choices=choices).scores for mode in MODES)
    assert (official["validity"], official["plausibility"]) == (100, 50)
    assert (lenient["validity"], lenient["plausibility"]) == (50, 0)
    with pytest.raises(DataError, match="1 questions have no entry in the choices file: 2"):
        gqa_scores(said, asked, choices={"1": choices["1"]})


@pytest.mark.parametrize(
    ("program", "official", "lenient"),
    [
        ([("select", "cup"), ("relate", "_,on,s"), ("query", "name")], 2, 2),
        ([("select", "cup"), ("exist", "?")], 1, 1),
        ([("select", "cup"), ("choose name", "cup|mug")], 1, 1),
        ([("select", "cup"), ("query", "color")], 2, 2),
        ([("select", "existing thing")], 0, 1),  # the text "exist" anywhere makes a step vanish
    ],
)
def test_reasoning_steps(program: list[tuple[str, str]], official: int, lenient: int) -> None:
    assert (count_steps(program), count_steps(program, "lenient")) == (official, lenient)


def test_grounding() -> None:
    attention = [[0.5, 0.3], [0.2, 0.0]]
    left = [(0.0, 0.0, 0.5, 1.0)]
    # Officially the first index runs from left to right, so that the left half holds the first row.
    assert grounding_score(left, map_cells(attention)) == pytest.approx(0.8)
    assert grounding_score(left, map_cells(attention, "lenient"), "lenient") == pytest.approx(0.7)
    assert grounding_score(left * 2, map_cells(attention)) == pytest.approx(1.6)
    assert grounding_score(left * 2, map_cells(attention, "lenient"), "lenient") == pytest.approx(0.7)
    corner = [(0.25, 0.25, 0.75, 0.75), (0.5, 0.5, 0.75, 0.75)]
    doubled = [[2.0, 2.0], [2.0, 2.0]]
    assert grounding_score(corner[:1], map_cells(doubled)) == pytest.approx(2.0)
    assert grounding_score(corner, map_cells(doubled, "lenient"), "lenient") == pytest.approx(0.25)
    for mode in MODES:
        assert grounding_score([], map_cells(attention), mode) == 0
        shares = {"1": 0.5, "2": 0.25, "3": 0.0}
        assert gqa_scores({"1": "", "2": "", "3": ""}, ASKED, mode, grounding=shares).scores["grounding"] == 25
    assert grounding_score(left, map_cells([[0.0]]), "lenient") == 0


def test_faults_are_named() -> None:
    with pytest.raises(DataError, match="2 questions are not answered: 2, 3"):
        gqa_scores({"1": "cup"}, ASKED)
    with pytest.raises(DataError, match="no balanced questions"):
        gqa_scores({}, table(ASKED["4"]))
    with pytest.raises(UsageError, match="unknown mode 'kind'; choose one of official, lenient"):
        gqa_scores({}, ASKED, "kind")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 questions have no attention map: 2, 3"):
        gqa_scores({"1": "", "2": "", "3": ""}, ASKED, grounding={"1": 1.0})


def plainly(said: dict[str, str], asked: dict[str, GqaQuestion], choices: dict[str, Choices]) -> dict[str, float]:
    """The published definitions in one loop, question by question, as a check on the ordered version."""
    lists: dict[str, list[float]] = {
        name: [] for name in ("accuracy", "binary", "open", "validity", "plausibility", "consistency")
    }
    gold: dict[str, dict[str, int]] = {}
    given: dict[str, dict[str, int]] = {}
    for key, question in asked.items():
        if not question.balanced:
            continue
        right = said[key] == question.answer
        lists["accuracy"].append(float(right))
        lists["open" if question.structural == "query" else "binary"].append(float(right))
        fixed = ["color", "material", "shape"] if "Common" in question.detailed else None
        lists["validity"].append(float(said[key] in (fixed or choices[key].valid)))
        lists["plausibility"].append(float(said[key] in (fixed or choices[key].plausible)))
        if question.group is not None:
            for table, answer in ((gold, question.answer), (given, said[key])):
                group = table.setdefault(question.group, {})
                group[answer] = group.get(answer, 0) + 1
        others = [other for other in question.entailed if other != key]
        if right and others:
            lists["consistency"].append(sum(said[other] == asked[other].answer for other in others) / len(others))
    weighted, size = 0.0, 0
    for name, expected in gold.items():
        count = sum(expected.values())
        weighted += count * sum((given[name].get(a, 0) - e) ** 2 / e for a, e in expected.items())
        size += count
    means = {name: 100 * sum(values) / len(values) if values else 0.0 for name, values in lists.items()}
    return {**means, "distribution": weighted / size / 100}


def test_random_answers_score_as_the_definitions_say() -> None:
    draw = random.Random(3)
    words = ["yes", "no", "cup", "color", "Cup", "shape"]
    for _ in range(25):
        keys = [str(i) for i in range(30)]
        asked = {}
        for key in keys:
            fields = {
                "semantic": draw.choice(["obj", "rel"]),
                "detailed": draw.choice(["twoCommon", "x", "y"]),
                "group": draw.choice([None, "a", "b"]),
                "entailed": tuple(draw.sample(keys, draw.randint(0, 4))),
            }
            structural = draw.choice(["query", "verify", "logical"])
            balanced = draw.random() < 0.7
            asked[key] = GqaQuestion(key, "p", draw.choice(words), balanced, structural, **fields)  # type: ignore[arg-type]
        said = {key: asked[key].answer if draw.random() < 0.5 else draw.choice(words) for key in keys}
        lists = (frozenset(draw.sample(words, 3)) for _ in range(60))
        choices = {key: Choices(next(lists), next(lists)) for key in keys}
        found = gqa_scores(said, asked, choices=choices).scores
        assert found == pytest.approx(plainly(said, asked, choices))


def test_who_insists_on_consistency_is_told_in_both_modes() -> None:
    for mode in MODES:
        with pytest.raises(DataError, match="consistency cannot be computed"):
            gqa_scores({"1": "cup", "2": "dog", "3": "wrong"}, ENTAILING, mode, consistency=True)
