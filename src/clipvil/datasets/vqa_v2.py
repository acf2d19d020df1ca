"""VQA v2 in its official files: a questions JSON, an annotations JSON (absent for test sets) and a folder of pictures.

Data section:

    format: vqa_v2
    root: /data/vqa                    # optional; other paths are relative to it
    cache: /fast/disk                  # optional; see `cache`
    train: {questions: Q.json, annotations: A.json, images: train2014, template: "COCO_train2014_{:012d}.jpg"}
    val: {...}
    test: {questions: Q.json, images: test2015, template: "COCO_test2015_{:012d}.jpg"}

Instead of `template`, `files` names a JSON object from image id to file name. `prefix` is put before the image ids of a
part, for corpora whose splits number their pictures alike (COCO's do not). A split may be a list of such parts, and a
part may be cut down by lists of ids: see `parts` and `selection`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets import parts
from clipvil.datasets.base import Dataset, Row
from clipvil.datasets.cache import cache_folder, cached
from clipvil.datasets.columns import QuestionBuilder, Questions
from clipvil.datasets.parts import Part, Request, picture_files
from clipvil.datasets.stream import stream_list
from clipvil.errors import DataError

ENTRIES = ("questions", "annotations", "images", "template", "files")
TEMPLATE = "{}.jpg"

split_names = parts.split_names


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return parts.load("vqa_v2", data, split)


def read_part(request: Request) -> Part:
    """One part of a split; called by `parts.load`."""
    records = read_questions(
        request.path("questions"), request.optional("annotations"), prefix=request.prefix, cache=request.cache
    )
    return Part(records, picture_files(request, TEMPLATE))


def read_questions(
    questions: str | Path, annotations: str | Path | None = None, *, prefix: str = "", cache: Path | None = None
) -> Questions:
    """Typed records in the order of the questions file; without `annotations` they have no answers.

    `cache` is a folder of parsed corpora (`cache_folder()` is the user's), None for none. Raises DataError for whatever
    is missing, doubled or of the wrong type, and when one file has a question that the other lacks.
    """
    sources = [Path(questions)] + ([Path(annotations)] if annotations is not None else [])

    def build() -> Questions:
        return join(questions, rows_under(questions, "questions"), annotations, "annotations", prefix)

    return cached("vqa_v2", sources, build, options={"prefix": prefix}, folder=cache)


def read_cached(questions: str | Path, annotations: str | Path | None = None) -> Questions:
    """`read_questions` with the user's cache."""
    return read_questions(questions, annotations, cache=cache_folder())


def rows_under(path: str | Path, key: str | None) -> Iterator[Row]:
    """The objects of a file's list (under `key` of its object, or the file itself), numbered from 1."""
    for number, item in enumerate(stream_list(path, key), start=1):
        yield Row(item, path, number)


def join(
    questions: str | Path,
    asked: Iterator[Row],
    annotations: str | Path | None,
    key: str | None,
    prefix: str,
    note: str | None = None,
) -> Questions:
    """Questions with their annotations (a list under `key`), in the order of the questions.

    `note` is a field of the questions to be noted of each picture.
    """
    builder = QuestionBuilder()
    rows: dict[str, _Asked] = {}
    for row in asked:
        question, image = row.identifier("question_id"), row.identifier("image_id")
        if question in rows:
            raise row.error(f"{question} was already used in row {rows[question][0]}", "question_id")
        rows[question] = (row.row, image, row.text("question"))
        if note is not None and not builder.note(prefix + image, row.text(note)):
            raise row.error(f"picture {image} had another one before", note)
    if not rows:
        raise DataError("holds no questions", file=questions)
    given = _annotations(annotations, key, rows, questions) if annotations is not None else {}
    for question, (number, image, text) in rows.items():
        if annotations is None:
            builder.add(question, prefix + image, text)
            continue
        if question not in given:
            what = f"question {question} has no annotation in {annotations}"
            raise DataError(what, file=questions, row=number, field="question_id")
        builder.add(question, prefix + image, text, *given.pop(question)[1])
    return builder.finish()


_Asked = tuple[int, str, str]
_Annotation = tuple[int, tuple[tuple[str, ...], str, str, str]]


def _annotations(
    path: str | Path, key: str | None, asked: Mapping[str, _Asked], questions: str | Path
) -> dict[str, _Annotation]:
    """Question id to row number and (answers, answer type, question type, most common answer)."""
    given: dict[str, _Annotation] = {}
    # Millions of answers, a hundred thousand different ones: each is checked and kept once.
    checked: dict[str, str] = {}
    for row in rows_under(path, key):
        question = row.identifier("question_id")
        if question in given:
            raise row.error(f"{question} was already annotated in row {given[question][0]}", "question_id")
        if question not in asked:
            raise row.error(f"annotation of question {question}, which {questions} does not ask", "question_id")
        image = asked[question][1]
        if row.has("image_id") and row.identifier("image_id") != image:
            raise row.error(f"question {question} is about picture {image} in {questions}", "image_id")
        given[question] = (
            row.row,
            (
                _answers(row, checked),
                row.text("answer_type", default=""),
                row.text("question_type", default=""),
                row.text("multiple_choice_answer", default="", empty=True),
            ),
        )
    return given


def _answers(row: Row, checked: dict[str, str]) -> tuple[str, ...]:
    answers = row.raw("answers")
    if not isinstance(answers, list) or not answers:
        raise row.error("must be a list with at least one answer", "answers")
    try:
        # Nearly always everything was seen before: one look-up an answer instead of all the questions below.
        return tuple([checked[answer["answer"]] for answer in answers])
    except (KeyError, TypeError):
        pass
    out = []
    for answer in answers:
        text = answer.get("answer") if isinstance(answer, dict) else answer
        if isinstance(answer, dict) and not isinstance(text, str):
            raise row.error("holds an answer without a text under 'answer'", "answers")
        kept = checked.get(text) if isinstance(text, str) else None
        if kept is None:
            kept = row.checked_text(text, "answers", empty=True)
            checked[kept] = kept
        out.append(kept)
    return tuple(out)
