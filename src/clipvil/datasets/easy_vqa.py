"""easy-VQA (PyPI package `easy-vqa`): 48,248 templated questions about 5,000 drawings of 64 x 64 pixels, 13 answers.

Data section: `format: easy_vqa`, optional `root` (the package's data folder; found by itself when installed),
`holdout` (share of the training pictures kept for selection, default 0.1) and `seed` of that choice.

`test` is the official test split. The package has no validation split: `train` and `val` share the official training
questions by picture, so that nothing about the test split is used to choose a step or a setting.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, known, option_int, option_path, parse_json, read_text
from clipvil.datasets.splitting import split_pictures
from clipvil.errors import DataError
from clipvil.records import Question

HOLDOUT = 0.1
_ENTRIES = ("format", "root", "holdout", "seed")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """Always train, val and test."""
    known(data, _ENTRIES)
    return ["train", "val", "test"]


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation. Raises DataError when the package is not installed."""
    if split not in split_names(data):
        raise DataError(f"there is no split '{split}'", fix="easy-VQA has train, val and test")
    holdout = data.get("holdout", HOLDOUT)
    if isinstance(holdout, bool) or not isinstance(holdout, int | float) or not 0 < holdout < 1:
        raise DataError("must be a number between 0 and 1", field="data.holdout")
    root = _root(data)
    official = "test" if split == "test" else "train"
    records = read_questions(root / official / "questions.json", official)
    if official == "train":
        part = split_pictures((r.image_id for r in records), {"val": holdout}, seed=option_int(data, "seed", 0))
        records = [record for record in records if part[record.image_id] == split]
    ids = dict.fromkeys(record.image_id for record in records)
    pictures = {i: root / official / "images" / (i.partition("/")[2] + ".png") for i in ids}
    return Dataset("easy_vqa", split, records, pictures)


def read_questions(path: Path, official: str) -> list[Question]:
    """Records of one official split; the ids of questions and pictures start with its name, as both number from 0."""
    rows = parse_json(read_text(path), file=path)
    if not isinstance(rows, list):
        raise DataError("must hold a list of [question, answer, picture]", file=path)
    records = []
    for number, value in enumerate(rows):
        if not isinstance(value, list) or len(value) != 3:
            raise DataError("must be [question, answer, picture]", file=path, row=number + 1)
        row = Row(dict(zip(("question", "answer", "picture"), value, strict=True)), path, number + 1)
        answer, question = row.text("answer"), row.text("question")
        records.append(
            Question(
                question_id=f"{official}/{number}",
                image_id=f"{official}/{row.identifier('picture')}",
                question=question,
                answers=(answer,),
                answer_type="yes/no" if answer in ("yes", "no") else "other",
                question_type=question_type(question),
                multiple_choice_answer=answer,
            )
        )
    return records


def question_type(question: str) -> str:
    """The four kinds of template: colour, shape, presence, absence. Ours: the package names none."""
    if question.startswith("what"):
        return "color" if "color" in question else "shape"
    return "absence" if " not " in question or " no " in question else "presence"


def _root(data: Mapping[str, Any]) -> Path:
    if data.get("root") is not None:
        return option_path(data, "root")
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the package easy-vqa is not installed", fix="pip install easy-vqa")
    return Path(next(iter(spec.submodule_search_locations))) / "data"
