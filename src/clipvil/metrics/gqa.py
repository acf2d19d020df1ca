"""GQA's metrics (Hudson and Manning 2019): accuracy, consistency, validity, plausibility, grounding, distribution.

All are over the balanced questions; the others only serve consistency. Modes:

- `official`: equal to the official evaluation script, its quirks included:
  answers are compared letter by letter; where a question asks what two things have in common, `color`, `material` and
  `shape` take the place of the choices file; answers that are right for no question of a group do not count in the
  distribution, which is chi-square divided by 100; a step counts as reasoning unless "exist", "query: name" or "choose
  name" occurs anywhere in its text; the first index of an attention map goes from left to right; a cell that two
  regions cover counts twice, so that grounding can exceed 100; the whole scene is no region.
- `lenient`: case and outer blanks do not matter; the choices file holds for all questions; wrong answers add to the
  distribution as misplaced mass (half the L1 distance between the two, 0 to 1); steps are judged by their operation;
  maps are rows first, attention is normalised and counted once, and the whole scene is a region; consistency is
  taken over those entailed questions that are at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from clipvil.errors import DataError, UsageError

GqaMode = Literal["official", "lenient"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the picture's width and height."""
_IN_COMMON = frozenset(("color", "material", "shape"))
_NOT_REASONING = ("exist", "query: name", "choose name")


@dataclass(frozen=True)
class GqaQuestion:
    """One question as far as the metrics need it; see `datasets.gqa.read_full`.

    `steps` and `lenient_steps` are the lengths of its program in the two modes, `objects` the scene graph's objects
    that question and full answer point to, `group` the global group (None: none).
    """

    question_id: str
    image_id: str
    answer: str
    balanced: bool = True
    structural: str = ""
    semantic: str = ""
    detailed: str = ""
    group: str | None = None
    words: int = 0
    steps: int = 0
    lenient_steps: int = 0
    entailed: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    whole_scene: bool = False


@dataclass(frozen=True)
class Choices:
    """Answers that are in the question's scope at all (valid), and those that make sense in the world (plausible)."""

    valid: frozenset[str]
    plausible: frozenset[str]


@dataclass(frozen=True)
class GqaScores:
    """What the script prints, unrounded: percentages, but `distribution`, which is better the lower it is.

    `scores` misses what could not be computed, `not_computed` says why. `per_question` holds 0 or 100 for each balanced
    question; `groups` the ids of a heading's groups.
    """

    mode: GqaMode
    scores: Mapping[str, float]
    not_computed: Mapping[str, str]
    per_question: Mapping[str, float]
    groups: Mapping[str, Mapping[str, Sequence[str]]] = field(repr=False)

    def breakdown(self, heading: str) -> dict[str, float]:
        """Accuracy of each group of a heading: structural_type, semantic_type, steps, words, answer_kind."""
        return {name: _average(self.per_question[i] for i in ids) for name, ids in self.groups[heading].items()}


def count_steps(program: Iterable[tuple[str, str]], mode: GqaMode = "official") -> int:
    """Reasoning steps of a functional program of (operation, argument), the final asking of a name not counted."""
    if mode == "official":
        return sum(
            not any(mark in f"{operation}: {argument}" for mark in _NOT_REASONING) for operation, argument in program
        )
    return sum(
        operation not in ("exist", "choose name") and (operation, argument) != ("query", "name")
        for operation, argument in program
    )


def gqa_scores(
    predictions: Mapping[str, str],
    questions: Mapping[str, GqaQuestion],
    mode: GqaMode = "official",
    *,
    choices: Mapping[str, Choices] | None = None,
    grounding: Mapping[str, float] | None = None,
    consistency: bool | None = None,
) -> GqaScores:
    """Score `predictions` (question id to answer).

    `grounding` holds each question's share from `grounding_score`. `consistency` None computes it where all it needs is
    there; True insists. Predictions of further questions are passed over, as in the script.

    Raises DataError naming missing predictions or choices, UsageError for an unknown mode.
    """
    if mode not in get_args(GqaMode):
        raise UsageError(f"unknown mode '{mode}'; choose one of {', '.join(get_args(GqaMode))}")
    balanced = [question for question in questions.values() if question.balanced]
    if not balanced:
        raise DataError("no balanced questions, over which GQA is scored")
    _need((q.question_id for q in balanced), predictions, "are not answered")
    same = _same(mode)
    per_question = {q.question_id: 100.0 * same(predictions[q.question_id], q.answer) for q in balanced}
    groups = _groups(balanced, mode)
    scores = {"accuracy": _average(per_question.values())}
    missing: dict[str, str] = {}

    def put(name: str, value: float | None, reason: str) -> None:
        # The script prints 0 for the mean of nothing.
        if value is None and (mode == "lenient" or name == "distribution"):
            missing[name] = reason
        else:
            scores[name] = value or 0.0

    for kind in ("binary", "open"):
        ids = groups["answer_kind"].get(kind, ())
        put(kind, _average(per_question[i] for i in ids) if ids else None, f"no {kind} questions")
    reason = _inconsistent(balanced, questions, predictions, mode, consistency)
    if reason:
        missing["consistency"] = reason
    else:
        value = _consistency(balanced, questions, predictions, per_question, mode)
        put("consistency", value, "no correctly answered question entails one that is at hand")
    if choices is None:
        missing["validity"] = missing["plausibility"] = "no choices file"
    else:
        scores.update(_choices(balanced, predictions, choices, mode))
    if grounding is None:
        missing["grounding"] = "no attention maps and scene graphs"
    else:
        _need((q.question_id for q in balanced), grounding, "have no attention map")
        scores["grounding"] = 100.0 * _average(grounding[q.question_id] for q in balanced)
    put("distribution", _distribution(balanced, predictions, mode), "no question belongs to a global group")
    return GqaScores(mode, scores, missing, per_question, groups)


def grounding_score(regions: Sequence[Box], cells: Sequence[tuple[Box, float]], mode: GqaMode = "official") -> float:
    """How much of the attention (box, weight) lies in the regions that question and answer speak of."""
    if mode == "official":
        return sum(weight * _overlap(cell, region) / _area(cell) for region in regions for cell, weight in cells)
    total = sum(weight for _, weight in cells)
    if not total:
        return 0.0
    return sum(weight * _covered(cell, regions) / _area(cell) for cell, weight in cells if weight) / total


def map_cells(attention: Sequence[Sequence[float]], mode: GqaMode = "official") -> list[tuple[Box, float]]:
    """The cells of a square attention map with their weights; `official` takes the first index from left to right."""
    edge = 1.0 / len(attention)
    cells = []
    for i, row in enumerate(attention):
        for j, weight in enumerate(row):
            x, y = (i, j) if mode == "official" else (j, i)
            cells.append(((edge * x, edge * y, edge * (x + 1), edge * (y + 1)), weight))
    return cells


def _same(mode: GqaMode) -> Callable[[str, str], bool]:
    if mode == "official":
        return lambda said, gold: said == gold
    return lambda said, gold: said.strip().lower() == gold.strip().lower()


def _average(values: Iterable[float]) -> float:
    """The mean; 0 of nothing, as in the script."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def _need(ids: Iterable[str], there: Mapping[str, object], what: str) -> None:
    absent = [i for i in ids if i not in there]
    if absent:
        some = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise DataError(f"{len(absent)} questions {what}: {some}")


def _groups(balanced: Sequence[GqaQuestion], mode: GqaMode) -> dict[str, dict[str, list[str]]]:
    out: dict[str, dict[str, list[str]]] = {
        name: {} for name in ("answer_kind", "structural_type", "semantic_type", "steps", "words")
    }
    for question in balanced:
        steps = question.steps if mode == "official" else question.lenient_steps
        names = {
            "answer_kind": "open" if question.structural == "query" else "binary",
            "structural_type": question.structural,
            "semantic_type": question.semantic,
            "steps": f"{steps:2d}",
            "words": f"{question.words:2d}",
        }
        for heading, name in names.items():
            out[heading].setdefault(name, []).append(question.question_id)
    return {heading: {name.strip(): ids for name, ids in sorted(groups.items())} for heading, groups in out.items()}


def _others(question: GqaQuestion) -> list[str]:
    return [key for key in question.entailed if key != question.question_id]


def _inconsistent(
    balanced: Sequence[GqaQuestion],
    questions: Mapping[str, GqaQuestion],
    predictions: Mapping[str, str],
    mode: GqaMode,
    wanted: bool | None,
) -> str:
    """Why consistency cannot be computed; empty when it can. Raises DataError instead when it is `wanted`."""
    if wanted is False:
        return "not asked for"
    if mode == "lenient" and not wanted:
        return ""
    unknown = {key for question in balanced for key in _others(question) if key not in questions}
    silent = [key for key in questions if key not in predictions]
    reason = ""
    if unknown:
        reason = (
            f"{len(unknown)} entailed questions are not in the questions file ({_some(unknown)}): "
            "it needs all, not only balanced ones"
        )
    elif silent:
        reason = f"{len(silent)} questions are not answered ({_some(silent)})"
    if reason and wanted:
        raise DataError(f"consistency cannot be computed: {reason}")
    return reason


def _some(ids: Iterable[str]) -> str:
    listed = sorted(ids)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def _consistency(
    balanced: Sequence[GqaQuestion],
    questions: Mapping[str, GqaQuestion],
    predictions: Mapping[str, str],
    per_question: Mapping[str, float],
    mode: GqaMode,
) -> float | None:
    """Accuracy on what a correctly answered question entails, averaged over those questions; None without any."""
    same = _same(mode)
    shares = []
    for question in balanced:
        others = _others(question)
        if mode == "lenient":
            others = [key for key in others if key in questions and key in predictions]
        if per_question[question.question_id] and others:
            shares.append(_average(float(same(predictions[key], questions[key].answer)) for key in others))
    return 100.0 * _average(shares) if shares else None


def _choices(
    balanced: Sequence[GqaQuestion], predictions: Mapping[str, str], choices: Mapping[str, Choices], mode: GqaMode
) -> dict[str, float]:
    _need((q.question_id for q in balanced), choices, "have no entry in the choices file")
    valid, plausible = [], []
    for question in balanced:
        said, there = predictions[question.question_id], choices[question.question_id]
        if mode == "lenient":
            said = said.strip().lower()
        fixed = _IN_COMMON if mode == "official" and "Common" in question.detailed else None
        valid.append(float(said in (fixed or there.valid)))
        plausible.append(float(said in (fixed or there.plausible)))
    return {"validity": 100.0 * _average(valid), "plausibility": 100.0 * _average(plausible)}


def _distribution(balanced: Sequence[GqaQuestion], predictions: Mapping[str, str], mode: GqaMode) -> float | None:
    """How far the answers given to a group of questions are from the right ones as a whole, weighted by group size."""
    gold: dict[str, Counter[str]] = {}
    said: dict[str, Counter[str]] = {}
    for question in balanced:
        if question.group is not None:
            answer, right = predictions[question.question_id], question.answer
            if mode == "lenient":
                answer, right = answer.strip().lower(), right.strip().lower()
            gold.setdefault(question.group, Counter())[right] += 1
            said.setdefault(question.group, Counter())[answer] += 1
    if not gold:
        return None
    score, overall = 0.0, 0
    for group, expected in gold.items():
        size, found = sum(expected.values()), said[group]
        if mode == "official":
            score += size * sum((found[answer] - count) ** 2 / count for answer, count in expected.items())
        else:
            score += sum(abs(found[answer] - expected[answer]) for answer in expected.keys() | found.keys()) / 2
        overall += size
    return score / overall / (100 if mode == "official" else 1)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _covered(cell: Box, regions: Sequence[Box]) -> float:
    """Area of the part of a cell that at least one region covers."""
    inside = [
        (max(cell[0], r[0]), max(cell[1], r[1]), min(cell[2], r[2]), min(cell[3], r[3]))
        for r in regions
        if _overlap(cell, r) > 0
    ]
    xs, ys = sorted({x for r in inside for x in (r[0], r[2])}), sorted({y for r in inside for y in (r[1], r[3])})
    marked = np.zeros((max(len(xs) - 1, 0), max(len(ys) - 1, 0)), dtype=bool)
    for r in inside:
        marked[xs.index(r[0]) : xs.index(r[2]), ys.index(r[1]) : ys.index(r[3])] = True
    return float(np.diff(xs) @ marked @ np.diff(ys)) if marked.size else 0.0
