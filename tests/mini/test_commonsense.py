from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from clipvil.mini.commonsense import DISTRACTOR_TAG, GOLD_TAG, INTENTIONS
from clipvil.mini.companions import vcr_metadata, vcr_rows
from clipvil.mini.world import HELD_OUT, Object, scene

COUNT = 150


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(vcr_rows("train", COUNT, 0))


def view(row: dict[str, Any]) -> tuple[Object, ...]:
    return scene(0, "train", int(row["img_id"]) - 1).objects


def side(one: Object, other: Object) -> set[str]:
    """Every side of the other thing on which the first one stands, by the sign of the distances alone."""
    return {"left" if one.x < other.x else "right", "above" if one.y < other.y else "below"}


def true_of(words: list[str], subject: list[int], question: list[Any], things: tuple[Object, ...]) -> bool:
    """Whether a choice, said of the question's subject, is so: worked out from its words."""
    thing = things[subject[0]]
    tags = [token[0] for token in question if isinstance(token, list)]
    if "about" in words:
        return INTENTIONS[thing.shape] == words[words.index("to") + 1]
    if "both" in words:
        value = words[words.index("both") + 1]
        return all(value in (things[number].color, things[number].shape) for number in subject)
    if "first" in words:
        return words[words.index("first") + 1] in side(things[subject[0]], things[subject[1]])
    if "stands" in words:
        return words[words.index("stands") + 1] in side(thing, things[tags[0]])
    if "has" in words:
        way = {"up": "above", "down": "below"}.get(words[4], words[4])
        return way in side(things[tags[1]], thing)
    if "goes" in words:
        return things[tags[1]].color in words
    return thing.color in words


def test_the_right_choice_is_true_and_says_what_no_other_does(rows: list[dict[str, Any]]) -> None:
    kinds = Counter(" ".join(word for word in row["question"] if isinstance(word, str)) for row in rows)
    assert len(kinds) == 4
    for row in rows:
        asked = [token for token in row["question"] if isinstance(token, list)]
        # Why is [0] looking at [1]: the answer is about [1].
        subject = asked[1] if row["question"][0] == "Why" else asked[0]
        for kind in ("answer", "rationale"):
            said = _bare(row, kind)
            directions = {"left", "right", "up", "down", "above", "below"} & set(said[0])
            truth = [true_of(choice, subject, row["question"], view(row)) for choice in said]
            assert truth[row[f"{kind}_label"]], (row, kind)
            # Along the other axis a direction may be true as well; it is not the one that leads there.
            assert sum(truth) == 1 or directions, (row, kind)
            assert len({tuple(choice) for choice in said}) == 4


def _bare(row: dict[str, Any], kind: str) -> list[list[str]]:
    """The choices without what they are about: a dash in the place of the first token."""
    return [["-", *(t for t in choice[1:] if isinstance(t, str))] for choice in row[f"{kind}_choices"]]


def test_labels_are_even_and_tags_are_biased_as_documented() -> None:
    rows = list(vcr_rows("val", 400, 0))
    labels = Counter(row["answer_label"] for row in rows)
    assert all(abs(labels[place] / len(rows) - 0.25) < 0.05 for place in range(4))
    named = {True: 0, False: 0}
    for row in rows:
        asked = [token for token in row["question"] if isinstance(token, list)]
        subject = asked[1] if row["question"][0] == "Why" else asked[0]
        for place, choice in enumerate(row["answer_choices"]):
            named[place == row["answer_label"]] += choice[0] == subject
    assert abs(named[True] / len(rows) - GOLD_TAG) < 0.05
    assert abs(named[False] / (3 * len(rows)) - DISTRACTOR_TAG) < 0.05


def test_training_says_no_pair_that_it_never_shows(rows: list[dict[str, Any]]) -> None:
    shapes = {intention: shape for shape, intention in INTENTIONS.items()}
    for row in rows:
        if "about" in row["question"]:
            answer = row["answer_choices"][row["answer_label"]]
            colors = {choice[2] for choice in row["rationale_choices"]}
            assert not {(shapes[answer[4]], color) for color in colors} & HELD_OUT


def test_metadata_has_a_box_for_every_tag(rows: list[dict[str, Any]]) -> None:
    for row in rows[:20]:
        found = vcr_metadata(scene(0, "train", int(row["img_id"]) - 1))
        assert len(found["boxes"]) == len(found["segms"]) == len(row["objects"])
        for (x1, y1, x2, y2, score), thing in zip(found["boxes"], view(row), strict=True):
            assert 0 <= x1 < thing.x < x2 <= found["width"]
            assert 0 <= y1 < thing.y < y2 <= found["height"]
            assert score == 1
