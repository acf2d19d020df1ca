"""VQA-CP v1 and v2 in their own files: bare lists of questions, which name their picture's COCO split, and annotations.

Data section:

    format: vqa_cp
    root: /data/vqacp
    train: {questions: vqacp_v2_train_questions.json, annotations: vqacp_v2_train_annotations.json, images: /data/coco}
    test: {questions: vqacp_v2_test_questions.json, annotations: vqacp_v2_test_annotations.json, images: /data/coco}

Under `images` lie train2014 and val2014; a picture's file is made by `template` from `split` and `image` (default
`{split}/COCO_{split}_{image:012d}.jpg`). VQA-CP has no validation split: choosing a step on its test split would learn
the shifted priors that the test is about, so hold questions out of train by `ids` and `exclude` (see `selection`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets import parts
from clipvil.datasets.base import Dataset
from clipvil.datasets.cache import cached
from clipvil.datasets.columns import Questions
from clipvil.datasets.parts import Part, Request
from clipvil.datasets.vqa_v2 import join, rows_under
from clipvil.errors import DataError

ENTRIES = ("questions", "annotations", "images", "template")
TEMPLATE = "{split}/COCO_{split}_{image:012d}.jpg"

split_names = parts.split_names


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return parts.load("vqa_cp", data, split)


def read_part(request: Request) -> Part:
    """One part of a split; called by `parts.load`."""
    questions, annotations = request.path("questions"), request.optional("annotations")
    records = read_questions(questions, annotations, prefix=request.prefix, cache=request.cache)
    return Part(records, _files(request, questions, records))


def read_questions(
    questions: str | Path, annotations: str | Path | None = None, *, prefix: str = "", cache: Path | None = None
) -> Questions:
    """Records in the order of the questions; image ids are COCO's numbers. Raises DataError as `vqa_v2` does."""
    sources = [Path(questions)] + ([Path(annotations)] if annotations is not None else [])

    def build() -> Questions:
        return join(questions, rows_under(questions, None), annotations, None, prefix, note="coco_split")

    return cached("vqa_cp", sources, build, options={"prefix": prefix}, folder=cache)


def _files(request: Request, questions: Path, records: Questions) -> Callable[[str], str]:
    folder = request.images()
    template = request.text("template", TEMPLATE)
    splits = records.notes()

    def fill(image: str) -> str:
        split = splits[request.prefix + image]
        try:
            name = template.format(split=split, image=int(image) if image.isdecimal() else image)
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            raise DataError(
                f"the template {template!r} does not fit picture {image} ({error})", file=questions, field="template"
            ) from None
        return os.path.join(folder, name)  # noqa: PTH118 - a hundred thousand Paths would take a second

    return fill
