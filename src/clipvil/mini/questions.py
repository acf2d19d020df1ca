"""The questions of the miniature world, and their true answers.

Every question is answerable from the picture alone, refers to exactly one object where it says "the", and yes/no
questions are made by a fair coin first and a fitting question second, so that wording alone gives little away.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from clipvil.mini.captions import article
from clipvil.mini.referring import Description, describe, refer
from clipvil.mini.world import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT,
    MAX_OBJECTS,
    PRIORS,
    RELATION_MARGIN,
    SHAPES,
    SIZES,
    TEXTURES,
    Object,
    Scene,
    next_to,
    relation_holds,
    stream,
    weighted,
)

VALUES = {"size": SIZES, "color": COLORS, "texture": TEXTURES, "shape": SHAPES}
ANSWERS = {
    **VALUES,
    "background": BACKGROUNDS,
    "number": tuple(str(n) for n in range(MAX_OBJECTS + 1)),
    "yes/no": ("yes", "no"),
}
"""All answers by family; an annotator who errs gives another answer of the same family."""
SIDES = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
TRIES = 12
PATIENCE = 60


@dataclass(frozen=True)
class Asked:
    """A question about one scene with its true answer."""

    text: str
    question_type: str
    answer: str
    family: str
    """Key of `ANSWERS`."""

    @property
    def answer_type(self) -> str:
        """The answer type of VQA v2: "yes/no", "number" or "other"."""
        return self.family if self.family in ("yes/no", "number") else "other"


def questions(scene: Scene, count: int = 5, *, split: str = "train", seed: int = 0) -> list[Asked]:
    """`count` different questions about a scene, of mixed types, at most two of a type where the scene allows it.

    A scene of one object has fewer than eight questions under that rule: after `PATIENCE` misses in a row a type may
    come once more, and a scene that has nothing left to ask yields fewer than `count`.
    """
    rng = stream(seed, "questions", split, scene.key)
    found: list[Asked] = []
    misses, limit = 0, 2
    while len(found) < count and limit <= count:
        make = weighted(rng, list(KINDS), list(KINDS.values()))
        asked = make(rng, scene, split)
        if asked is not None and all(asked.text != other.text for other in found):
            alike = sum(asked.question_type == other.question_type for other in found)
            if alike < limit:
                found.append(asked)
                misses = 0
                continue
        misses += 1
        if misses == PATIENCE:
            misses, limit = 0, limit + 1
    return found


def _any(rng: random.Random, scene: Scene) -> Object:
    """One object; in a scene that shows held-out pairs more often one of those, which are what such a scene is for."""
    unseen = [thing for thing in scene.objects if thing.pair in HELD_OUT]
    pool = unseen if unseen and rng.random() < 0.7 else scene.objects
    return pool[rng.randrange(len(pool))]


def _yes_no(holds: bool) -> str:
    return "yes" if holds else "no"


def _attribute(name: str, pattern: str, question_type: str) -> Callable[[random.Random, Scene, str], Asked | None]:
    """A maker of questions that ask one attribute of one object."""

    def make(rng: random.Random, scene: Scene, split: str) -> Asked | None:
        thing = _any(rng, scene)
        found = refer(rng, scene, thing, hidden=(name,))
        if found is None:
            return None
        return Asked(pattern.format(found.words()), question_type, getattr(thing, name), name)

    return make


def _background(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    return Asked("What is in the background?", "what is in the", scene.background, "background")


def _how_many(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    """Counts of one or two attributes; larger counts are preferred, as a count of one is close to "is there"."""
    if rng.random() < 0.2:
        return Asked("How many objects are there?", "how many", str(len(scene.objects)), "number")
    wanted = weighted(rng, (0, 1, 2, 3, 4), (1.0, 1.6, 2.0, 1.6, 1.0))
    for _ in range(TRIES):
        names = _counted_attributes(rng)
        found = describe(_any(rng, scene), names) if wanted else _imagined(rng, names, split)
        if (count := found.count(scene)) == wanted:
            return Asked(f"How many {found.words(plural=True)} are there?", "how many", str(count), "number")
    return None


def _counted_attributes(rng: random.Random) -> tuple[str, ...]:
    return (("shape",), ("color",), ("texture",), ("color", "shape"), ("texture", "shape"))[rng.randrange(5)]


def _imagined(rng: random.Random, names: tuple[str, ...], split: str) -> Description:
    """A description that need not fit anything; never a held-out pair where those must not be mentioned."""
    while True:
        found = Description(**{name: VALUES[name][rng.randrange(len(VALUES[name]))] for name in names})
        if split == "shifted" or (found.shape, found.color) not in HELD_OUT:
            return found


def _is_there(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    """A "no" changes one attribute of something that is there, so that each word alone may well occur."""
    # No texture by itself: with three of them most pictures show each, and the word alone would mean "yes".
    kinds = ("shape", "color", "color shape", "texture shape", "size shape", "color texture", "size color")
    names = tuple(kinds[rng.randrange(len(kinds))].split())
    truth = rng.random() < 0.5
    for _ in range(TRIES):
        found = describe(_any(rng, scene), names)
        if not truth:
            found = _altered(rng, found, names, split)
        if (found.count(scene) > 0) == truth and (split == "shifted" or (found.shape, found.color) not in HELD_OUT):
            return Asked(f"Is there {article(found.words())}?", "is there a", _yes_no(truth), "yes/no")
    return None


def _altered(rng: random.Random, found: Description, names: tuple[str, ...], split: str) -> Description:
    """The description with one attribute replaced, drawn as often as the split shows that word."""
    name = names[rng.randrange(len(names))]
    values = {each: getattr(found, each) for each in names}
    values[name] = _drawn(rng, name, split)
    return Description(**values)


def _drawn(rng: random.Random, name: str, split: str) -> str:
    priors = PRIORS[split]
    weights = {"shape": priors.shapes, "color": priors.colors, "texture": priors.textures}.get(name)
    choices = VALUES[name]
    return weighted(rng, choices, weights or [1.0] * len(choices))


def _is_the(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    """Does one object have a colour, a texture or a size."""
    name = ("color", "texture", "texture", "size")[rng.randrange(4)]
    thing = _any(rng, scene)
    found = refer(rng, scene, thing, hidden=(name,))
    if found is None:
        return None
    actual = getattr(thing, name)
    truth = rng.random() < 0.5
    value = actual
    while not truth and value == actual:
        value = _drawn(rng, name, split)
    # A shape must not be named beside a colour it is never shown with.
    if found.shape and name == "color" and split != "shifted" and (found.shape, value) in HELD_OUT:
        return None
    return Asked(f"Is the {found.words()} {value}?", "is the", _yes_no(truth), "yes/no")


def _are_there_more(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    """Comparison of two counts; which of the two comes first is a fair coin, so the words alone say nothing."""
    name = ("shape", "color", "texture")[rng.randrange(3)]
    present = sorted({getattr(thing, name) for thing in scene.objects})
    if len(present) < 2:
        return None
    rng.shuffle(present)
    first, second = (Description(**{name: value}) for value in present[:2])
    more, fewer = first.count(scene), second.count(scene)
    if more == fewer:
        return None
    text = f"Are there more {first.words(plural=True)} than {second.words(plural=True)}?"
    return Asked(text, "are there more", _yes_no(more > fewer), "yes/no")


def _does_the(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    """A relation between two objects; the "no" of left, right, above and below is the opposite relation."""
    pairs = [(a, b) for a in scene.objects for b in scene.objects if a is not b]
    if not pairs:
        return None
    truth = rng.random() < 0.5
    close = rng.random() < 0.3
    rng.shuffle(pairs)
    for a, b in pairs[:TRIES]:
        relation = "next to" if close else list(SIDES)[rng.randrange(4)]
        opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
        if close:
            agrees = next_to(a, b) is truth
        else:
            agrees = relation_holds(relation if truth else opposite[relation], a, b)
        first, second = refer(rng, scene, a), refer(rng, scene, b)
        if agrees and first and second:
            text = f"Does the {first.words()} stand {SIDES.get(relation, relation)} the {second.words()}?"
            return Asked(text, "does the", _yes_no(truth), "yes/no")
    return None


def _what_is(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    """Shape or colour of the only object on one side of another; nothing may stand almost on that side."""
    anchor = _any(rng, scene)
    relation = list(SIDES)[rng.randrange(4)]
    others = [thing for thing in scene.objects if thing is not anchor]
    on_side = [thing for thing in others if relation_holds(relation, thing, anchor)]
    if len(on_side) != 1 or any(_almost(relation, thing, anchor) for thing in others):
        return None
    found = refer(rng, scene, anchor)
    if found is None:
        return None
    if rng.random() < 0.5:
        return Asked(f"What is {SIDES[relation]} the {found.words()}?", "what is", on_side[0].shape, "shape")
    text = f"What color is the object {SIDES[relation]} the {found.words()}?"
    return Asked(text, "what color is the", on_side[0].color, "color")


def _almost(relation: str, a: Object, b: Object) -> bool:
    """Whether `a` is a little on that side of `b`, too little for the relation."""
    dx, dy = b.x - a.x, b.y - a.y
    along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
    return 0 < along < RELATION_MARGIN


KINDS: dict[Callable[[random.Random, Scene, str], Asked | None], float] = {
    _is_there: 14,
    _is_the: 11,
    _does_the: 12,
    _are_there_more: 9,
    _how_many: 18,
    _attribute("color", "What color is the {}?", "what color is the"): 10,
    _attribute("shape", "What shape is the {}?", "what shape is the"): 10,
    _attribute("texture", "What pattern is on the {}?", "what pattern is on the"): 12,
    _attribute("size", "What size is the {}?", "what size is the"): 4,
    _background: 7,
    _what_is: 22,
}
"""Makers of questions and how often each is tried; relations fail more often for want of a unique answer."""
