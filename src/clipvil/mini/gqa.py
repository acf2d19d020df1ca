"""GQA questions about the scenes of the miniature world, as objects of the official file.

They are drawn as the VQA questions are, from a stream of their own and without counts, which GQA does not ask. A
question about one attribute of one thing entails another, which is written down too, but is not balanced: "What color
is the star?" with the answer red entails "Is the star red?". Consistency is measured by those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from clipvil.mini.questions import Asked, questions
from clipvil.mini.world import Scene

ASKED = 8
"""Questions tried a picture; those that count are dropped."""
FIRST_ID = 500
"""Behind the thousands of a picture's id, clear of its VQA questions."""
_STREAM = 1
# question_type -> structural, semantic and detailed type.
_TYPES = {
    "is there a": ("verify", "obj", "exist"),
    "is the": ("verify", "attr", "verifyAttr"),
    "does the": ("verify", "rel", "relVerify"),
    "are there more": ("compare", "attr", "compareMore"),
    "what color is the": ("query", "attr", "directOf"),
    "what shape is the": ("query", "attr", "directOf"),
    "what pattern is on the": ("query", "attr", "directOf"),
    "what size is the": ("query", "attr", "directOf"),
    "what is in the": ("query", "global", "place"),
    "what is": ("query", "rel", "relO"),
}
_SIDES = r"(?:to the )?(left of|right of|above|below)"
_ENTAILING = re.compile(r"(?:What color is|What pattern is on|What size is) the (.+)\?")
_BESIDE = re.compile(rf"object {_SIDES} the .+")
_PROGRAMS = (
    (re.compile(r"Is there an? (?P<a>.+)\?"), ("select {a}", "exist ?")),
    (re.compile(r"Does the (?P<a>.+) stand (?:to the )?(?P<r>left of|right of|above|below|next to) the (?P<b>.+)\?"),
     ("select {b}", "relate {a},{r},s", "exist ?")),
    (re.compile(r"Are there more (?P<a>.+) than (?P<b>.+)\?"), ("select {a}", "select {b}", "compare more")),
    (re.compile(rf"What color is the object {_SIDES.replace('(left', '(?P<r>left')} the (?P<b>.+)\?"),
     ("select {b}", "relate _,{r},s", "query color")),
    (re.compile(r"What color is the (?P<a>.+)\?"), ("select {a}", "query color")),
    (re.compile(r"What shape is the (?P<a>.+)\?"), ("select {a}", "query shape")),
    (re.compile(r"What pattern is on the (?P<a>.+)\?"), ("select {a}", "query pattern")),
    (re.compile(r"What size is the (?P<a>.+)\?"), ("select {a}", "query size")),
    (re.compile(r"What is in the background\?"), ("select scene", "query place")),
    (re.compile(rf"What is {_SIDES.replace('(left', '(?P<r>left')} the (?P<b>.+)\?"),
     ("select {b}", "relate _,{r},s", "query name")),
    (re.compile(r"Is the (?P<a>.+) (?P<r>\w+)\?"), ("select {a}", "verify {r}")),
)  # fmt: skip


def gqa_questions(scene: Scene, image_id: int, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(question id, question) of one scene, each entailed question behind the one that entails it."""
    number = image_id * 1000 + FIRST_ID
    for asked in questions(scene, ASKED, split=split, seed=_STREAM):
        if asked.question_type not in _TYPES:
            continue
        key, other = str(number), str(number + 1)
        number += 2
        entailed = _entailed(asked)
        yield key, _question(asked, key, image_id, [other] if entailed else [], balanced=True)
        if entailed:
            yield other, _question(entailed, other, image_id, [], balanced=False)


def _entailed(asked: Asked) -> Asked | None:
    found = _ENTAILING.fullmatch(asked.text)
    # What is beside a thing needs more words than such a question has.
    if found is None or _BESIDE.fullmatch(found[1]):
        return None
    return Asked(f"Is the {found[1]} {asked.answer}?", "is the", "yes", "yes/no")


def _question(asked: Asked, key: str, image_id: int, entailed: list[str], *, balanced: bool) -> dict[str, Any]:
    structural, semantic, detailed = _TYPES[asked.question_type]
    program = _program(asked.text)
    group = asked.family if structural == "query" else None
    return {
        "semantic": program,
        "entailed": entailed,
        "equivalent": [key],
        "question": asked.text,
        "imageId": str(image_id),
        "isBalanced": balanced,
        "groups": {"global": group, "local": f"{detailed}-{program[0]['argument']}"},
        "answer": asked.answer,
        "semanticStr": "->".join(f"{step['operation']}: {step['argument']}" for step in program),
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
        "fullAnswer": f"It is {asked.answer}." if structural == "query" else f"{asked.answer.capitalize()}.",
    }


def _program(text: str) -> list[dict[str, Any]]:
    """The steps that lead to the answer; each depends on the one before."""
    for pattern, steps in _PROGRAMS:
        found = pattern.fullmatch(text)
        if found:
            filled = [step.format(**found.groupdict()).partition(" ") for step in steps]
            return [
                {"operation": operation, "dependencies": _depends(place, operation, len(filled)), "argument": argument}
                for place, (operation, _, argument) in enumerate(filled)
            ]
    raise ValueError(f"no program for the question {text!r}")


def _depends(place: int, operation: str, steps: int) -> list[int]:
    if operation == "select":
        return []
    return list(range(place)) if operation == "compare" else [place - 1]
