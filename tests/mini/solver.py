"""A second opinion: answers a question of the miniature world from its text and the scene, sharing no code with it."""

from __future__ import annotations

import re

from clipvil.mini.world import COLORS, SHAPES, SIZES, TEXTURES, Object, Scene

WORDS = {
    **{word: ("size", word) for word in SIZES},
    **{word: ("color", word) for word in COLORS},
    **{word: ("texture", word) for word in TEXTURES},
    **{word: ("shape", word) for word in SHAPES},
    **{("crosses" if word == "cross" else word + "s"): ("shape", word) for word in SHAPES},
}
SIDE = r"(to the left of|to the right of|above|below)"


def matches(words: str, scene: Scene) -> list[Object]:
    """The objects that fit a noun phrase."""
    wanted = [WORDS[word] for word in words.split() if word not in ("a", "an", "the", "object", "objects")]
    return [thing for thing in scene.objects if all(getattr(thing, name) == value for name, value in wanted)]


def referent(words: str, scene: Scene) -> Object:
    """The object that "the ..." means. Fails unless there is exactly one."""
    found = matches(words, scene)
    assert len(found) == 1, f"'the {words}' means {len(found)} objects"
    return found[0]


def stands(side: str, a: Object, b: Object) -> bool:
    dx, dy = a.x - b.x, a.y - b.y
    return {"to the left of": dx <= -12, "to the right of": dx >= 12, "above": dy <= -12, "below": dy >= 12}[side]


def solve(text: str, scene: Scene) -> str:
    """The answer to a question, or an AssertionError where the question is not a fair one."""
    if text == "What is in the background?":
        return scene.background
    if found := re.fullmatch(r"How many (.+) are there\?", text):
        return str(len(matches(found[1], scene)))
    if found := re.fullmatch(r"Is there (an? .+)\?", text):
        return "yes" if matches(found[1], scene) else "no"
    if found := re.fullmatch(r"Are there more (.+) than (.+)\?", text):
        return "yes" if len(matches(found[1], scene)) > len(matches(found[2], scene)) else "no"
    if found := re.fullmatch(rf"What (?:color is the object|is) {SIDE} the (.+)\?", text):
        anchor = referent(found[2], scene)
        there = [thing for thing in scene.objects if thing is not anchor and stands(found[1], thing, anchor)]
        assert len(there) == 1, f"{len(there)} objects stand {found[1]} the {found[2]}"
        return there[0].color if "color" in text else there[0].shape
    if found := re.fullmatch(r"What (color|shape|size) is the (.+)\?", text):
        return str(getattr(referent(found[2], scene), found[1]))
    if found := re.fullmatch(r"What pattern is on the (.+)\?", text):
        return referent(found[1], scene).texture
    if found := re.fullmatch(rf"Does the (.+) stand {SIDE} the (.+)\?", text):
        a, b = referent(found[1], scene), referent(found[3], scene)
        opposite = {"to the left of": "to the right of", "above": "below"}
        opposite |= {other: side for side, other in opposite.items()}
        holds = stands(found[2], a, b)
        assert holds or stands(opposite[found[2]], a, b), "the two stand side by side on that axis"
        return "yes" if holds else "no"
    if found := re.fullmatch(r"Does the (.+) stand next to the (.+)\?", text):
        a, b = referent(found[1], scene), referent(found[2], scene)
        between = ((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5 - a.radius - b.radius
        assert between <= 14 or between >= 34, "neither near nor far"
        return "yes" if between <= 14 else "no"
    if found := re.fullmatch(r"Is the (.+) (\w+)\?", text):
        name, value = WORDS[found[2]]
        return "yes" if getattr(referent(found[1], scene), name) == value else "no"
    raise AssertionError(f"a question of no known form: {text}")
