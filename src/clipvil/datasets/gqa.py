"""GQA in its official files: JSON objects from question id to question, one file or a folder of shards, and pictures.

Data section:

    format: gqa
    root: /data/gqa
    train: {questions: train_balanced_questions.json, images: images}
    all: {questions: train_all_questions, images: images}         # a folder: every .json in it, in the order of numbers
    val: {questions: val_all_questions.json, balanced: true, images: images}      # only the balanced ones of them
    test: {questions: submission_all_questions.json, images: images}              # without answers

Pictures are `<imageId>.jpg`, or as `template` or `files` say. Records have the one answer, `answer_type` "binary" or
"open" (which asks, as in the official script, whether the structural type is "query") and `question_type` as in
"verify/attr" (structural and semantic type). A split may be a list of parts, and a part may be cut down by lists of
ids: see `parts` and `selection`. `read_full` reads what only the metrics need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets import parts
from clipvil.datasets.base import Dataset, Row
from clipvil.datasets.cache import cached
from clipvil.datasets.columns import QuestionBuilder, Questions, find_double
from clipvil.datasets.parts import Part, Request, picture_files
from clipvil.datasets.stream import stream_object
from clipvil.errors import DataError
from clipvil.metrics.gqa import GqaQuestion, count_steps

ENTRIES = ("questions", "balanced", "images", "template", "files")
TEMPLATE = "{}.jpg"

split_names = parts.split_names


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return parts.load("gqa", data, split)


def read_part(request: Request) -> Part:
    """One part of a split; called by `parts.load`."""
    balanced = request.entry.get("balanced")
    if balanced not in (None, True, False):
        raise DataError(f"the recipe's {request.where} section: 'balanced' must be true or false", field="balanced")
    records = read_questions(
        request.path("questions"), prefix=request.prefix, balanced=bool(balanced), cache=request.cache
    )
    return Part(records, picture_files(request, TEMPLATE))


def read_questions(
    path: str | Path, *, prefix: str = "", balanced: bool = False, cache: Path | None = None
) -> Questions:
    """Records of a file or a folder of shards, in file order; with `balanced` only the balanced questions.

    Raises DataError naming file, row and field. A question without `answer` (a test set) has no answers.
    """
    files = shards(path)

    def build() -> Questions:
        builder, starts = QuestionBuilder(), []
        for file in files:
            starts.append(len(builder))
            for key, row in _rows(file):
                if balanced and not _flag(row):
                    continue
                answer = (row.text("answer"),) if row.has("answer") else ()
                structural, semantic = (_kind(row, name) for name in ("structural", "semantic"))
                builder.add(
                    key,
                    prefix + row.identifier("imageId"),
                    row.text("question"),
                    answer,
                    ("open" if structural == "query" else "binary") if structural else "",
                    f"{structural}/{semantic}" if structural and semantic else structural or semantic,
                    answer[0] if answer else "",
                )
        records = builder.finish()
        if not len(records):
            raise DataError("holds no balanced questions" if balanced else "holds no questions", file=path)
        ids = records.column("question_id")
        double = find_double(ids)
        if double is not None:
            which = sum(start <= double[0] for start in starts) - 1
            raise DataError(f"question {ids[double[0]]} stands twice", file=files[which])
        return records

    return cached("gqa", files, build, options={"prefix": prefix, "balanced": balanced}, folder=cache)


def read_full(path: str | Path) -> dict[str, GqaQuestion]:
    """Every question with what the metrics need, by id in file order. Raises DataError naming file, row and field."""
    out: dict[str, GqaQuestion] = {}
    for file in shards(path):
        for key, row in _rows(file):
            if key in out:
                raise row.error(f"question {key} stands twice")
            out[key] = _full(key, row)
    if not out:
        raise DataError("holds no questions", file=path)
    return out


def shards(path: str | Path) -> list[Path]:
    """The file itself, or the .json files of a folder in the order of the numbers in their names."""
    path = Path(path)
    if not path.is_dir():
        # The official archives unpack to a folder of shards of the same name.
        folder = path.with_suffix("")
        if path.exists() or not folder.is_dir() or path.suffix != ".json":
            return [path]
        path = folder
    found = sorted(
        path.glob("*.json"), key=lambda file: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", file.name)]
    )
    if not found:
        raise DataError("holds no .json files", file=path)
    return found


def _rows(file: Path) -> Iterator[tuple[str, Row]]:
    for number, (key, value) in enumerate(stream_object(file), start=1):
        row = Row(value, file, number)
        if not key.strip():
            raise row.error("a question with an empty id")
        yield row.checked_text(key, "question id"), row


def _flag(row: Row) -> bool:
    value = row.raw("isBalanced")
    if not isinstance(value, bool):
        raise row.error("must be true or false", "isBalanced")
    return value


def _part(row: Row, name: str, kind: type, default: Any) -> Any:
    value = row.value.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise row.error(f"must be {'a list' if kind is list else 'an object'}", name)
    return value


def _kind(row: Row, name: str) -> str:
    value = _part(row, "types", dict, {}).get(name)
    if value is not None and not isinstance(value, str):
        raise row.error(f"'{name}' must be a string", "types")
    return value or ""


def _full(key: str, row: Row) -> GqaQuestion:
    balanced = _flag(row)
    answer, image = row.text("answer"), row.identifier("imageId")
    if not balanced:
        # They only serve consistency, and there are ten times as many.
        return GqaQuestion(key, image, answer, balanced=False)
    program = _program(row)
    group = _part(row, "groups", dict, {}).get("global")
    entailed = _part(row, "entailed", list, [])
    marks = _part(row, "annotations", dict, {})
    objects = [marks.get(name) or {} for name in ("question", "fullAnswer")]
    if not all(isinstance(place, dict) for place in objects):
        raise row.error("must hold objects under 'question' and 'fullAnswer'", "annotations")
    return GqaQuestion(
        key,
        image,
        answer,
        structural=_kind(row, "structural"),
        semantic=_kind(row, "semantic"),
        detailed=_kind(row, "detailed"),
        group=None if group is None else str(group),
        words=len(row.text("question").split()),
        steps=count_steps(program),
        lenient_steps=count_steps(program, "lenient"),
        entailed=tuple(str(other) for other in entailed),
        objects=tuple(str(pointer) for place in objects for pointer in place.values()),
        whole_scene=any(argument.partition("(")[0].strip() == "scene" for _, argument in program),
    )


def _program(row: Row) -> list[tuple[str, str]]:
    steps = []
    for step in _part(row, "semantic", list, []):
        if not isinstance(step, dict) or not isinstance(step.get("operation"), str):
            raise row.error("holds a step without an 'operation'", "semantic")
        steps.append((step["operation"], str(step.get("argument", ""))))
    return steps
