from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.datasets.base import check_splits
from clipvil.datasets.easy_vqa import question_type
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from tests.datasets.build import write

DATA = {"format": "easy_vqa"}


def test_official_splits_with_a_part_of_train_for_selection() -> None:
    pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")
    train, val, test = (load(DATA, split) for split in split_names(DATA))
    assert len(test.records) == 9673
    assert len(train.records) + len(val.records) == 38575
    assert (len(train.pictures), len(val.pictures), len(test.pictures)) == (3600, 400, 1000)
    assert check_splits(train, val).pictures == check_splits(train, test).pictures == 0
    first = test.records[0]
    assert (first.question_id, first.image_id, first.question) == ("test/0", "test/0", "what is the red shape?")
    assert (first.answers, first.answer_type, first.question_type) == (("triangle",), "other", "shape")
    assert test.images[0].read().startswith(b"\x89PNG")
    assert sum(record.answer_type == "yes/no" for record in test.records) == 7136


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("what color is the circle?", "color"),
        ("what is the color of the shape?", "color"),
        ("what shape is present?", "shape"),
        ("is there a red shape?", "presence"),
        ("does the image not contain a circle?", "absence"),
        ("is no red shape present?", "absence"),
    ],
)
def test_kinds_of_question(question: str, kind: str) -> None:
    assert question_type(question) == kind


def small(root: Path, rows: str) -> dict[str, object]:
    (root / "train").mkdir()
    write(root / "train" / "questions.json", rows)
    return {**DATA, "root": str(root)}


def test_holdout_is_by_picture_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    data = small(tmp_path, str([["why?", "yes", i // 3] for i in range(60)]).replace("'", '"'))
    first = load(data, "val")
    assert len(first.pictures) == 2
    assert len(first.records) == 6
    assert load({**data, "holdout": 0.5}, "val").pictures.keys() > first.pictures.keys()
    assert load({**data, "seed": 5}, "val").pictures.keys() != first.pictures.keys()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('[["why?", "yes"]]', r"row 1: must be \[question, answer, picture\]"),
        ('[["why?", "yes", 1], ["why?", 3, 1]]', "row 2, field 'answer': must be a string"),
        ('[["why?", "yes", 1.5]]', "row 1, field 'picture'"),
        ('{"a": 1}', "must hold a list"),
        ('[["why?", "y', "not valid JSON"),
    ],
)
def test_faults_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(small(tmp_path, rows), "train")


def test_wrong_data_sections() -> None:
    with pytest.raises(DataError, match="no split 'dev'"):
        load(DATA, "dev")
    with pytest.raises(DataError, match="between 0 and 1"):
        load({**DATA, "holdout": 2}, "train")
    with pytest.raises(DataError, match="did you mean 'holdout'"):
        load({**DATA, "hold_out": 0.1}, "train")
