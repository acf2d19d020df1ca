"""VCR questions about the scenes of the miniature world: what tagged things intend, and how they stand to each other.

Every thing of a scene is a tagged `person`, so that a tag says nothing of what the thing is: one must look into its
box.
There are four kinds of questions, each with an answer and a rationale that both follow from the picture:

| question | answer | rationale |
|---|---|---|
| What is [0] about to do ? | an intention, by the thing's shape (`INTENTIONS`) | its colour |
| Why is [0] looking at [1] ? | [1]'s colour | on which side of [0] it stands |
| How does [0] get to [1] ? | the way, by where [1] stands | [1]'s colour |
| What do [0,1] share ? | the colour or shape that both have | on which side of [1] [0] stands |

**Distractors.** The four choices say four different values of one attribute in the same words, so exactly one is true
of the thing that the question is about; values are drawn as often as the split shows them. The rationale does not
follow from the answer, so that reading the right answer helps nobody to the right rationale.

**The bias.** As in VCR, right choices repeat the question's tags more often than wrong ones: a right choice names the
thing of the question by its tag with the chance `GOLD_TAG`, else by a pronoun; a wrong one with the chance
`DISTRACTOR_TAG`, else by the tag of another thing of the picture, where it has one that the question does not name, or
by a pronoun. A model may choose by tags alone; the sets that `clipvil vcr shortcuts` makes turn that against it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from clipvil.mini.world import COLORS, HELD_OUT, PRIORS, SHAPES, Object, Scene, stream, weighted

GOLD_TAG = 0.85
DISTRACTOR_TAG = 0.6
CHOICES = 4
INTENTIONS = {
    "circle": "bounce", "square": "rest", "triangle": "climb", "diamond": "shop", "star": "shine", "cross": "help",
    "ring": "marry", "moon": "sleep", "heart": "hug", "arrow": "fly",
}  # fmt: skip
WAYS = ("left", "right", "up", "down")
SIDES = {"left": "left of", "right": "right of", "up": "above", "down": "below"}
CLEAR = 20.0
"""Units of `CANVAS` that two centres must lie apart along the way that is asked for."""
ALONG = 1.5
"""... and how many times as far as across it."""

Token = str | list[int]
_PRONOUNS = ("he", "she")


@dataclass(frozen=True)
class Choice:
    """A sentence with a gap for the thing that it is about: tokens, `None` where the tag or a pronoun stands."""

    tokens: tuple[Token | None, ...]

    def said(self, subject: Token) -> list[Token]:
        """The sentence about a tag or a pronoun."""
        words = [subject if token is None else token for token in self.tokens]
        first = words[0]
        return [first.capitalize() if isinstance(first, str) else first, *words[1:]]


@dataclass(frozen=True)
class Asked:
    """A question: `subject` the tags that it is about, `context` the other tags that it names.

    Of `answers` and `rationales` the first is right.
    """

    question: list[Token]
    subject: tuple[int, ...]
    context: tuple[int, ...]
    answers: tuple[Choice, ...]
    rationales: tuple[Choice, ...]


def commonsense(scene: Scene, count: int, *, split: str, seed: int = 0) -> list[dict[str, Any]]:
    """At most `count` questions about a scene as the fields of an official row: `objects`, `question`,

    `answer_choices`, `answer_label`, `rationale_choices`, `rationale_label`. Of a scene of one thing there are none.
    """
    rng = stream(seed, "vcr", split, scene.key)
    found: list[Asked] = []
    if len(scene.objects) < 2:
        return []
    for _ in range(8 * count):
        asked = weighted(rng, _KINDS, _WEIGHTS)(rng, scene, split)
        if asked is not None and all(asked.question != other.question for other in found):
            found.append(asked)
        if len(found) == count:
            break
    return [_row(rng, scene, asked) for asked in found]


def _row(rng: random.Random, scene: Scene, asked: Asked) -> dict[str, Any]:
    pronoun = "they" if len(asked.subject) > 1 else _PRONOUNS[rng.randrange(2)]
    answers, answer = _shuffled(rng, scene, asked, asked.answers, pronoun)
    rationales, rationale = _shuffled(rng, scene, asked, asked.rationales, pronoun)
    return {
        "objects": ["person"] * len(scene.objects),
        "question": asked.question,
        "answer_choices": answers,
        "answer_label": answer,
        "rationale_choices": rationales,
        "rationale_label": rationale,
    }


def _shuffled(
    rng: random.Random, scene: Scene, asked: Asked, choices: Sequence[Choice], pronoun: str
) -> tuple[list[list[Token]], int]:
    """The choices said in a drawn order, and the place of the right one."""
    others = [n for n in range(len(scene.objects)) if n not in asked.subject and n not in asked.context]
    order = rng.sample(range(CHOICES), CHOICES)
    said: list[list[Token]] = []
    for place in order:
        subject: Token = list(asked.subject)
        draw = rng.random()
        if draw >= (DISTRACTOR_TAG if place else GOLD_TAG):
            other = rng.sample(others, len(asked.subject)) if place and len(others) >= len(asked.subject) else None
            # Two in three of the wrong ones that do not name the thing name another one.
            subject = sorted(other) if other is not None and rng.random() < 2 / 3 else pronoun
        said.append(choices[place].said(subject))
    return said, order.index(0)


def _about_to_do(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    number, thing = _any(rng, scene)
    answers = _values(rng, "shape", thing.shape, split)
    # Colours that such a thing never has would be known to be wrong from the answer alone.
    never = {color for shape, color in HELD_OUT if shape == thing.shape} if split != "shifted" else set()
    colors = _values(rng, "color", thing.color, split, never=never)
    return Asked(
        ["What", "is", [number], "about", "to", "do", "?"],
        (number,),
        (),
        tuple(Choice((None, "is", "about", "to", INTENTIONS[shape], ".")) for shape in answers),
        tuple(Choice((None, "is", color, "and", "may", "do", "so", ".")) for color in colors),
    )


def _looking_at(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    pair = _clear_pair(rng, scene)
    if pair is None:
        return None
    one, other, way = pair
    colors = _values(rng, "color", scene.objects[other].color, split)
    return Asked(
        ["Why", "is", [one], "looking", "at", [other], "?"],
        (other,),
        (one,),
        tuple(Choice((None, "is", "all", color, ".")) for color in colors),
        tuple(Choice((None, "stands", *SIDES[side].split(), [one], ".")) for side in _ways(rng, way)),
    )


def _get_to(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    pair = _clear_pair(rng, scene)
    if pair is None:
        return None
    one, other, way = pair
    colors = _values(rng, "color", scene.objects[other].color, split)
    return Asked(
        ["How", "does", [one], "get", "to", [other], "?"],
        (one,),
        (other,),
        tuple(Choice((None, "has", "to", "go", side, ".")) for side in _ways(rng, way)),
        tuple(Choice((None, "goes", "where", "all", "is", color, ".")) for color in colors),
    )


def _share(rng: random.Random, scene: Scene, split: str) -> Asked | None:
    pair = _clear_pair(rng, scene)
    if pair is None:
        return None
    one, other, way = pair
    a, b = scene.objects[one], scene.objects[other]
    name = "color" if rng.random() < 0.5 else "shape"
    value = getattr(a, name)
    if value != getattr(b, name):
        return None
    values = _values(rng, name, value, split)
    group = tuple(sorted((one, other)))
    # Said of the first of the group, so that a pronoun for both leaves it open which of them is meant.
    side = way if group[0] == other else _opposite(way)
    ways = _ways(rng, side)
    return Asked(
        ["What", "do", list(group), "share", "?"],
        group,
        (),
        tuple(Choice((None, "are", "both", word, ".")) for word in values),
        tuple(Choice((None, "stand", "first", *SIDES[one_way].split(), "second", ".")) for one_way in ways),
    )


_KINDS: list[Callable[[random.Random, Scene, str], Asked | None]] = [_about_to_do, _looking_at, _get_to, _share]
_WEIGHTS = (3.0, 2.0, 2.0, 6.0)
"""The last kind fails most often, for want of two things that are alike."""


def _any(rng: random.Random, scene: Scene) -> tuple[int, Object]:
    number = rng.randrange(len(scene.objects))
    return number, scene.objects[number]


def _clear_pair(rng: random.Random, scene: Scene) -> tuple[int, int, str] | None:
    """Two things, and the one way that leads from the first to the second; None where that is not clear."""
    one, other = rng.sample(range(len(scene.objects)), 2)
    way = way_to(scene.objects[one], scene.objects[other])
    return None if way is None else (one, other, way)


def way_to(one: Object, other: Object) -> str | None:
    """Which of `WAYS` leads from a thing to another; None where two of them would do."""
    dx, dy = other.x - one.x, other.y - one.y
    along, across = (dx, dy) if abs(dx) >= abs(dy) else (dy, dx)
    if abs(along) < CLEAR or abs(along) < ALONG * abs(across):
        return None
    names = ("left", "right") if abs(dx) >= abs(dy) else ("up", "down")
    return names[along > 0]


def _ways(rng: random.Random, right: str) -> list[str]:
    return [right, *rng.sample([way for way in WAYS if way != right], CHOICES - 1)]


def _opposite(way: str) -> str:
    return {"left": "right", "right": "left", "up": "down", "down": "up"}[way]


def _values(rng: random.Random, name: str, right: str, split: str, *, never: Collection[str] = ()) -> list[str]:
    """The right value and three others, each drawn as often as the split shows it: rare words are no sign of lies."""
    priors = PRIORS[split]
    words, weights = (SHAPES, priors.shapes) if name == "shape" else (COLORS, priors.colors)
    found = [right]
    while len(found) < CHOICES:
        left = [(word, weight) for word, weight in zip(words, weights, strict=True) if word not in {*found, *never}]
        found.append(weighted(rng, [word for word, _ in left], [weight for _, weight in left]))
    return found
