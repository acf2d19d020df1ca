from __future__ import annotations

import re
from collections import Counter

import pytest

from clipvil.mini.hypotheses import LABELS, Labelled, hypotheses
from clipvil.mini.world import COLORS, HELD_OUT, SHAPES, SIZES, TEXTURES, Object, Scene, scene

SPLITS = ("train", "test", "shifted")
WORDS = {
    word: name
    for name, words in (("color", COLORS), ("texture", TEXTURES), ("size", SIZES), ("shape", SHAPES))
    for word in words
}
ABOUT = re.compile(r"The (.+) is (left of|right of|above|below) the (.+)\.|The (.+) is (\w+)\.")


@pytest.fixture(scope="module", params=SPLITS)
def world(request: pytest.FixtureRequest) -> tuple[str, list[Scene], list[Labelled]]:
    scenes = [scene(3, request.param, index) for index in range(150)]
    return request.param, scenes, hypotheses(scenes, 4, split=request.param, seed=3)


def test_every_sentence_has_each_label_equally_often(world: tuple[str, list[Scene], list[Labelled]]) -> None:
    _, _, found = world
    counts = Counter((one.text, one.label) for one in found)
    for text in {one.text for one in found}:
        assert len({counts[text, label] for label in LABELS}) == 1
    # Whoever knows the sentence alone, and all the labels of the split besides, is right one time in three.
    best = sum(max(counts[text, label] for label in LABELS) for text in {one.text for one in found})
    assert best * 3 == len(found) > 400


def things(view: Scene, words: str) -> list[Object]:
    """What a noun phrase fits, worked out from the words alone."""
    named = {WORDS[word]: word for word in words.split() if word != "object"}
    return [thing for thing in view.objects if all(getattr(thing, name) == word for name, word in named.items())]


def label_of(view: Scene, text: str) -> str:
    """The label by the rule, by other code than that which wrote it."""
    match = ABOUT.fullmatch(text)
    assert match, text
    first, side, second, only, value = match.groups()
    groups = [things(view, words) for words in ([first, second] if side else [only])]
    if not all(groups):
        return "neutral"
    assert all(len(group) == 1 for group in groups), text
    if side:
        (a,), (b,) = groups
        dx, dy = b.x - a.x, b.y - a.y
        along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[side]
        assert abs(along) >= 12
        return "entailment" if along > 0 else "contradiction"
    return "entailment" if getattr(groups[0][0], WORDS[value]) == value else "contradiction"


def test_labels_follow_the_rule(world: tuple[str, list[Scene], list[Labelled]]) -> None:
    _, scenes, found = world
    assert all(label_of(scenes[one.index], one.text) == one.label for one in found)
    assert any(" is left of " in one.text for one in found)


def test_no_pair_twice_and_no_picture_far_above_its_share(world: tuple[str, list[Scene], list[Labelled]]) -> None:
    _, _, found = world
    assert len({(one.index, one.text) for one in found}) == len(found)
    assert max(Counter(one.index for one in found).values()) <= 6
    assert [one.index for one in found] == sorted(one.index for one in found)


def test_held_out_pairs_are_named_in_shifted_alone(world: tuple[str, list[Scene], list[Labelled]]) -> None:
    split, _, found = world
    named = set()
    for one in found:
        for words in re.split(r" is (?:left of|right of|above|below) the ", one.text.removeprefix("The ").rstrip(".")):
            said = {WORDS[word]: word for word in words.split() if word in WORDS}
            if (said.get("shape"), said.get("color")) in HELD_OUT:
                named.add(one.text)
    assert bool(named) == (split == "shifted")


def test_the_same_scenes_give_the_same_pairs() -> None:
    scenes = [scene(0, "val", index) for index in range(30)]
    assert hypotheses(scenes, 4, split="val") == hypotheses(scenes, 4, split="val")
    assert hypotheses(scenes, 4, split="val") != hypotheses(scenes, 4, split="val", seed=1)
    assert hypotheses(scenes[:1], 4, split="val") == []
