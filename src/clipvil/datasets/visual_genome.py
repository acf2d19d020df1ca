"""Visual Genome's own questions: `question_answers.json`, and `image_data.json` for which of its pictures are COCO's.

As further training questions of VQA v2 (whose published models used them):

    train:
      - {questions: ..., annotations: ..., images: train2014, template: "COCO_train2014_{:012d}.jpg"}
      - {format: visual_genome, questions: question_answers.json, image_data: image_data.json, images: VG_100K}

`questions` is a list of pictures, each with `qas`: objects with `qa_id`, `image_id`, `question`, `answer`. Pictures are
`<image_id>.jpg` or as `template` or `files` say; their ids here read `vg/<image_id>`, question ids `vg/<qa_id>`, as
both number from 1 and VQA v2's do so elsewhere.

With `image_data`, `coco: only` keeps pictures that are also COCO's and gives them COCO's ids (so that features of the
COCO pictures serve them; name `template` and `images` of the COCO pictures then), `coco: without` drops those pictures,
which keeps pictures of COCO's validation set out of training. There is one answer a question.

Files in VQA v2's own layout (`VG_questions.json`, `VG_annotations.json`, as spread with bottom-up attention)
need no reader of their own: they are one more part with `questions` and `annotations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets import parts
from clipvil.datasets.base import Dataset, Row
from clipvil.datasets.cache import cached
from clipvil.datasets.columns import QuestionBuilder, Questions, find_double
from clipvil.datasets.parts import Part, Request, picture_files
from clipvil.datasets.vqa_v2 import rows_under
from clipvil.errors import DataError

ENTRIES = ("questions", "image_data", "coco", "images", "template", "files")
TEMPLATE = "{}.jpg"
OWN = "vg/"
_COCO = ("only", "without")

split_names = parts.split_names


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return parts.load("visual_genome", data, split)


def read_part(request: Request) -> Part:
    """One part of a split; called by `parts.load`."""
    coco, image_data = request.entry.get("coco"), request.optional("image_data")
    if coco not in (None, *_COCO):
        raise DataError(f"the recipe's {request.where} section: 'coco' must be only or without", field="coco")
    if coco and image_data is None:
        raise DataError(f"the recipe's {request.where} section: 'coco' needs 'image_data'", field="image_data")
    records = read_questions(
        request.path("questions"), image_data, coco=coco, prefix=request.prefix, cache=request.cache
    )
    name = picture_files(request, TEMPLATE)
    return Part(records, lambda image: name(image.removeprefix(OWN)))


def read_questions(
    questions: str | Path,
    image_data: str | Path | None = None,
    *,
    coco: str | None = None,
    prefix: str = "",
    cache: Path | None = None,
) -> Questions:
    """Records in file order; see the module's documentation. Raises DataError naming file, row and field."""
    sources = [Path(questions)] + ([Path(image_data)] if image_data is not None else [])

    def build() -> Questions:
        numbers = _coco_ids(image_data) if image_data is not None else {}
        builder = QuestionBuilder()
        for picture in rows_under(questions, None):
            asked = picture.raw("qas")
            if not isinstance(asked, list):
                raise picture.error("must be a list", "qas")
            for item in asked:
                _add(builder, Row(item, picture.file, picture.row), numbers, coco, prefix)
        if not len(builder):
            raise DataError("holds no questions", file=questions)
        records = builder.finish()
        ids = records.column("question_id")
        double = find_double(ids)
        if double is not None:
            raise DataError(f"question {ids[double[0]]} stands twice", file=questions, field="qa_id")
        return records

    return cached("visual_genome", sources, build, options={"coco": coco, "prefix": prefix}, folder=cache)


def _add(builder: QuestionBuilder, row: Row, numbers: Mapping[str, str], coco: str | None, prefix: str) -> None:
    image = row.identifier("image_id")
    number = numbers.get(image)
    if (coco == "only" and number is None) or (coco == "without" and number is not None):
        return
    image_id = number if coco == "only" and number is not None else OWN + image
    answer = row.text("answer")
    builder.add(
        OWN + row.identifier("qa_id"),
        prefix + image_id,
        row.text("question"),
        (answer,),
        multiple_choice_answer=answer,
    )


def _coco_ids(path: str | Path) -> dict[str, str]:
    """COCO's number of each of Visual Genome's pictures that has one."""
    return {
        row.identifier("image_id"): row.identifier("coco_id") for row in rows_under(path, None) if row.has("coco_id")
    }
