"""VQA v2 in its official files: a questions JSON, an annotations JSON (absent for test sets) and a folder of pictures.

Data section:

    format: vqa_v2
    root: /data/vqa                    # optional; other paths are relative to it
    train: {questions: Q.json, annotations: A.json, images: train2014, template: "COCO_train2014_{:012d}.jpg"}
    val: {...}
    test: {questions: Q.json, images: test2015, template: "COCO_test2015_{:012d}.jpg"}

Instead of `template`, `files` names a JSON object from image id to file name. `prefix` is put before the image ids of a
split, for corpora whose splits number their pictures alike (COCO's do not).
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, known, option_path, option_text, parse_json, read_text
from clipvil.errors import DataError
from clipvil.records import Question

_SPLIT = ("questions", "annotations", "images", "template", "files", "prefix")
TEMPLATE = "{}.jpg"


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The entries of the data section that describe a split, train and val first. Looks at all, opens none."""
    names = [key for key in data if key not in ("format", "root")]
    for name in names:
        if not isinstance(data[name], Mapping):
            near = difflib.get_close_matches(name, ("root",), n=1)
            fix = f"did you mean '{near[0]}'?" if near else ""
            raise DataError(
                f"the split '{name}' must be a mapping with 'questions' and more", field=f"data.{name}", fix=fix
            )
        known(data[name], _SPLIT, f"data.{name}")
    return sorted(names, key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    names = split_names(data)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names) or 'none'}")
    entry = data[split]
    where = f"data.{split}"
    root = option_path(data, "root", ".")
    questions = root / option_path(entry, "questions", where=where)
    annotated = entry.get("annotations") is not None
    annotations = root / option_path(entry, "annotations", where=where) if annotated else None
    prefix = str(entry.get("prefix") or "")
    records = read_questions(questions, annotations, prefix=prefix)
    name = _file_names(entry, root, where)
    folder = root / option_path(entry, "images", ".", where=where)
    ids = dict.fromkeys(record.image_id for record in records)
    return Dataset("vqa_v2", split, records, {i: folder / name(i[len(prefix) :]) for i in ids})


def read_questions(questions: str | Path, annotations: str | Path | None = None, *, prefix: str = "") -> list[Question]:
    """Typed records in the order of the questions file; without `annotations` they have no answers.

    Raises DataError for whatever is missing, doubled or of the wrong type, and when one file has a question that the
    other lacks.
    """
    asked: dict[str, Row] = {}
    for row in _rows(questions, "questions"):
        key = row.identifier("question_id")
        if key in asked:
            raise row.error(f"{key} was already used in row {asked[key].row}", "question_id")
        asked[key] = row
    if not asked:
        raise DataError("holds no questions", file=questions)
    given = _annotations(annotations) if annotations is not None else {}
    if annotations is not None:
        orphan = next((key for key in given if key not in asked), None)
        if orphan is not None:
            raise given[orphan].error(f"annotation of question {orphan}, which {questions} does not ask", "question_id")
    return [_record(key, row, given.get(key), annotations, prefix) for key, row in asked.items()]


def _annotations(path: str | Path) -> dict[str, Row]:
    given: dict[str, Row] = {}
    for row in _rows(path, "annotations", object_hook=_answer_text):
        key = row.identifier("question_id")
        if key in given:
            raise row.error(f"{key} was already annotated in row {given[key].row}", "question_id")
        given[key] = row
    return given


def _record(key: str, row: Row, annotation: Row | None, annotations: str | Path | None, prefix: str) -> Question:
    image = row.identifier("image_id")
    text = row.text("question")
    if annotations is None:
        return Question(key, prefix + image, text)
    if annotation is None:
        raise row.error(f"question {key} has no annotation in {annotations}", "question_id")
    if annotation.has("image_id") and annotation.identifier("image_id") != image:
        raise annotation.error(f"question {key} is about picture {image} in {row.file}", "image_id")
    return Question(
        key,
        prefix + image,
        text,
        answers=_answers(annotation),
        answer_type=sys.intern(annotation.text("answer_type", default="")),
        question_type=sys.intern(annotation.text("question_type", default="")),
        multiple_choice_answer=sys.intern(annotation.text("multiple_choice_answer", default="", empty=True)),
    )


def _answers(row: Row) -> tuple[str, ...]:
    answers = row.raw("answers")
    if not isinstance(answers, list) or not answers:
        raise row.error("must be a list with at least one answer", "answers")
    if any(isinstance(answer, dict) for answer in answers):
        raise row.error("holds an answer without a text under 'answer'", "answers")
    return tuple(sys.intern(row.checked_text(answer, "answers", empty=True)) for answer in answers)


def _answer_text(value: dict[str, Any]) -> Any:
    # {"answer": "yes", "answer_confidence": ..., "answer_id": ...} -> "yes" while parsing: VQA v2 has 6.6 million of
    # these objects, and keeping the strings alone needs a fifth of the memory.
    answer = value.get("answer")
    return sys.intern(answer) if isinstance(answer, str) and "answers" not in value else value


def _rows(path: str | Path, key: str, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> list[Row]:
    value = parse_json(read_text(path), file=path, object_hook=object_hook)
    items = value.get(key) if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise DataError(f"must be an object with a list under '{key}'", file=path, field=key)
    return [Row(item, path, number) for number, item in enumerate(items, start=1)]


def _file_names(entry: Mapping[str, Any], root: Path, where: str) -> Callable[[str], str]:
    if entry.get("files") is not None:
        path = root / option_path(entry, "files", where=where)
        table = parse_json(read_text(path), file=path)
        if not isinstance(table, dict):
            raise DataError("must be an object from image id to file name", file=path)

        def look_up(image: str) -> str:
            if not isinstance(table.get(image), str):
                raise DataError(f"no file name for picture {image}", file=path)
            return str(table[image])

        return look_up
    template = option_text(entry, "template", TEMPLATE, where=where)

    def fill(image: str) -> str:
        try:
            return template.format(int(image) if image.isdecimal() else image)
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            raise DataError(
                f"the template {template!r} does not fit picture {image} ({error})", field="template"
            ) from None

    return fill
