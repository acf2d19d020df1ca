"""Hypotheses about the scenes of the miniature world, with labels that follow from a rule.

A hypothesis is about one thing, or two: "The star is red.", "The large arrow is left of the ring." What it names is
looked for in the picture:

- **entailment**: the picture shows just one such thing, and it is as the hypothesis says;
- **contradiction**: the picture shows just one such thing, and it is not so;
- **neutral**: the picture shows no such thing. A picture is a view of a larger world; what is said of a thing outside
  of it may be true or not.

A hypothesis that fits several things of a picture is not asked about that picture. In every split each sentence is
written once with each of the three labels, or twice with each, and so on. So nothing that knows the sentence alone can
be right more often than one time in three, on whatever it was trained; the pictures decide.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clipvil.mini.referring import ATTRIBUTES, Description, describe
from clipvil.mini.world import HELD_OUT, Object, Scene, relation_holds, stream

LABELS = ("entailment", "contradiction", "neutral")
SIDES = {"left of": "left of", "right of": "right of", "above": "above", "below": "below"}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_VALUES = ("color", "texture", "size")
_NAMES = (("shape",), ("color", "shape"), ("texture", "shape"), ("size", "shape"), ("color",), ("texture", "color"))
_TRIES = 40


@dataclass(frozen=True)
class Hypothesis:
    """A sentence and the things that it presupposes."""

    text: str
    about: tuple[Description, ...]

    def open_in(self, scene: Scene) -> bool:
        """Whether the scene shows nothing like one of the things, so that nothing follows from it."""
        return any(thing.count(scene) == 0 for thing in self.about)


@dataclass(frozen=True)
class Labelled:
    """A hypothesis about the scene of that index."""

    index: int
    text: str
    label: str


@dataclass
class _Known:
    """The scenes that settle a hypothesis, by label."""

    hypothesis: Hypothesis
    scenes: dict[str, list[int]] = field(default_factory=lambda: {"entailment": [], "contradiction": []})


def hypotheses(scenes: Sequence[Scene], per_scene: int, *, split: str, seed: int = 0) -> list[Labelled]:
    """Hypotheses about the scenes of one split in the order of the scenes, `per_scene` on average where there are

    enough scenes to pair up; fewer otherwise. Every sentence has each label equally often. Which hypotheses a scene
    gets depends on the other scenes of the split.
    """
    rng = stream(seed, "hypotheses", split, len(scenes))
    known = _settled(scenes, split, rng)
    texts = [text for text, found in known.items() if all(found.scenes.values())]
    used = [0] * len(scenes)
    limit = per_scene + 2
    found: list[Labelled] = []
    said: set[tuple[int, str]] = set()
    while texts and len(found) + len(LABELS) <= per_scene * len(scenes):
        rng.shuffle(texts)
        left = []
        for text in texts:
            if len(found) + len(LABELS) > per_scene * len(scenes):
                break
            triple = _triple(known[text], scenes, rng, lambda i, text=text: used[i] < limit and (i, text) not in said)  # type: ignore[misc]
            if triple is None:
                continue
            left.append(text)
            for index, label in zip(triple, LABELS, strict=True):
                used[index] += 1
                said.add((index, text))
                found.append(Labelled(index, text, label))
        texts = left
    return sorted(found, key=lambda one: one.index)


def _triple(
    known: _Known, scenes: Sequence[Scene], rng: random.Random, free: Callable[[int], bool]
) -> tuple[int, int, int] | None:
    """A scene for each of `LABELS`, or None when one of them has none left."""
    chosen = []
    for label in LABELS[:2]:
        pool = known.scenes[label]
        pool[:] = [index for index in pool if free(index)]
        if not pool:
            return None
        chosen.append(pool[rng.randrange(len(pool))])
    for _ in range(_TRIES):
        index = rng.randrange(len(scenes))
        if index not in chosen and free(index) and known.hypothesis.open_in(scenes[index]):
            return chosen[0], chosen[1], index
    return None


def _settled(scenes: Sequence[Scene], split: str, rng: random.Random) -> dict[str, _Known]:
    """Every sentence that a scene settles, with the scenes that do."""
    known: dict[str, _Known] = {}

    def note(hypothesis: Hypothesis, label: str, index: int) -> None:
        known.setdefault(hypothesis.text, _Known(hypothesis)).scenes[label].append(index)

    for index, scene in enumerate(scenes):
        names = [(thing, _unique(scene, thing, split)) for thing in scene.objects]
        for thing, descriptions in names:
            for description in descriptions:
                _attributes(rng, thing, description, split, index, note)
        for a, first in names:
            for b, second in names:
                if a is not b:
                    _relation(rng, (a, first), (b, second), index, note)
    return known


def _unique(scene: Scene, thing: Object, split: str) -> list[Description]:
    """Descriptions that fit this thing of the scene alone; no held-out pair is named outside of `shifted`."""
    found = (describe(thing, names) for names in _NAMES)
    return [one for one in found if one.count(scene) == 1 and _allowed(one.shape, one.color, split)]


def _allowed(shape: str | None, color: str | None, split: str) -> bool:
    return split == "shifted" or (shape, color) not in HELD_OUT


_Note = Callable[[Hypothesis, str, int], None]


def _attributes(
    rng: random.Random, thing: Object, description: Description, split: str, index: int, note: _Note
) -> None:
    """What the thing is, and one thing that it is not."""
    from clipvil.mini.questions import VALUES

    for name in _VALUES:
        if getattr(description, name) is not None:
            continue
        actual = getattr(thing, name)
        others = [value for value in VALUES[name] if value != actual]
        wrong = others[rng.randrange(len(others))]
        for value, label in ((actual, "entailment"), (wrong, "contradiction")):
            # A shape must not be named beside a colour that it is never shown with.
            if name != "color" or _allowed(description.shape, value, split):
                note(Hypothesis(f"The {description.words()} is {value}.", (description,)), label, index)


def _relation(
    rng: random.Random,
    one: tuple[Object, list[Description]],
    other: tuple[Object, list[Description]],
    index: int,
    note: _Note,
) -> None:
    """On which side of another thing it stands, and the opposite; by the shortest names alone."""
    (a, first), (b, second) = one, other
    if not first or not second or rng.random() < 0.5:
        return
    near, far = (min(names, key=_length) for names in (first, second))
    for relation in SIDES:
        if relation_holds(relation, a, b):
            for said, label in ((relation, "entailment"), (OPPOSITE[relation], "contradiction")):
                text = f"The {near.words()} is {SIDES[said]} the {far.words()}."
                note(Hypothesis(text, (near, far)), label, index)


def _length(description: Description) -> int:
    return sum(getattr(description, name) is not None for name in ATTRIBUTES)
