"""GQA's further official files, which only the metrics need: choices, scene graphs, attention maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Row, iter_rows
from clipvil.datasets.stream import stream_object
from clipvil.errors import DataError
from clipvil.metrics.gqa import Box, Choices, GqaMode, GqaQuestion, grounding_score, map_cells

_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def read_choices(path: str | Path) -> dict[str, Choices]:
    """`val_choices.json`: question id to {"valid": [...], "plausible": [...]}. Raises DataError."""
    out = {}
    for number, (key, value) in enumerate(stream_object(path), start=1):
        row = Row(value, path, number)
        out[key] = Choices(*(frozenset(_texts(row, name)) for name in ("valid", "plausible")))
    return out


def read_grounding(
    attentions: str | Path,
    scenes: str | Path,
    questions: Mapping[str, GqaQuestion],
    mode: GqaMode = "official",
    *,
    boxes: bool = False,
) -> dict[str, float]:
    """Share of the attention on the right regions by question id, for the balanced questions.

    `attentions` is a JSON list of {"questionId", "attention"}: a square map of numbers, or with `boxes` a list of
    [x0, y0, x1, y1, weight] in shares of the picture. `scenes` is the scene graphs file: image id to {"width",
    "height", "objects": {id: {"x", "y", "w", "h"}}}. Raises DataError naming file, row and field.
    """
    wanted = {question.image_id for question in questions.values() if question.balanced}
    graphs = {}
    for number, (key, value) in enumerate(stream_object(scenes), start=1):
        if key in wanted:
            graphs[key] = Row(value, scenes, number)
    out: dict[str, float] = {}
    for row in iter_rows(attentions):
        key = row.identifier("questionId")
        if key in out:
            raise row.error(f"question {key} stands twice", "questionId")
        question = questions.get(key)
        if question is None or not question.balanced:
            continue
        if question.image_id not in graphs:
            raise DataError(f"no scene graph of picture {question.image_id} (question {key})", file=scenes)
        regions = [_region(graphs[question.image_id], pointer) for pointer in question.objects]
        if mode == "lenient" and question.whole_scene:
            regions.append(_WHOLE)
        out[key] = grounding_score(regions, _cells(row, mode, boxes), mode)
    return out


def _texts(row: Row, name: str) -> list[str]:
    value = row.raw(name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise row.error("must be a list of strings", name)
    return value


def _number(row: Row, value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise row.error("must be a number", name)
    return float(value)


def _region(scene: Row, pointer: str) -> Box:
    found = scene.raw("objects").get(pointer) if isinstance(scene.raw("objects"), Mapping) else None
    if not isinstance(found, Mapping):
        raise scene.error(f"has no object {pointer}, which a question points to", "objects")
    width, height = (_number(scene, scene.raw(name), name) for name in ("width", "height"))
    x, y, w, h = (_number(scene, found.get(name), f"objects.{pointer}.{name}") for name in "xywh")
    if width <= 0 or height <= 0:
        raise scene.error("must be above 0", "width" if width <= 0 else "height")
    return x / width, y / height, (x + w) / width, (y + h) / height


def _cells(row: Row, mode: GqaMode, boxes: bool) -> list[tuple[Box, float]]:
    value = row.raw("attention")
    width = 5 if boxes else len(value) if isinstance(value, list) else 0
    if not width or not value or not all(isinstance(line, list) and len(line) == width for line in value):
        wanted = "a list of [x0, y0, x1, y1, weight]" if boxes else "a square map, as many rows as columns"
        raise row.error(f"must be {wanted}", "attention")
    numbers = [[_number(row, item, "attention") for item in line] for line in value]
    if not boxes:
        return map_cells(numbers, mode)
    if any(line[0] >= line[2] or line[1] >= line[3] for line in numbers):
        raise row.error("holds a box without area", "attention")
    return [((line[0], line[1], line[2], line[3]), line[4]) for line in numbers]
