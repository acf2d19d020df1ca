from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets.registry import load
from clipvil.errors import DataError
from clipvil.records import Question
from tests.datasets.build import annotations, questions, write

ASKED = [
    {"id": 1, "qas": [{"qa_id": 10, "image_id": 1, "question": "What?", "answer": "A cup.", "a_objects": []}]},
    {"id": 2, "qas": [{"qa_id": 11, "image_id": 2, "question": "Who?", "answer": "Nobody."}]},
    {"id": 3, "qas": []},
]
PICTURES = [{"image_id": 1, "coco_id": None}, {"image_id": 2, "coco_id": 1}, {"image_id": 3, "coco_id": 77}]


def section(folder: Path, **entries: Any) -> dict[str, Any]:
    write(folder / "qa.json", ASKED)
    write(folder / "image_data.json", PICTURES)
    return {
        "format": "visual_genome",
        "root": str(folder),
        "train": {"questions": "qa.json", "images": "vg", **entries},
    }


def test_own_ids_and_one_answer(tmp_path: Path) -> None:
    dataset = load(section(tmp_path), "train")
    assert list(dataset.records) == [
        Question("vg/10", "vg/1", "What?", ("A cup.",), multiple_choice_answer="A cup."),
        Question("vg/11", "vg/2", "Who?", ("Nobody.",), multiple_choice_answer="Nobody."),
    ]
    assert dataset.pictures["vg/2"] == tmp_path / "vg" / "2.jpg"


def test_pictures_that_are_cocos_as_well(tmp_path: Path) -> None:
    only = section(tmp_path, image_data="image_data.json", coco="only", template="COCO_{:012d}.jpg")
    assert [(r.question_id, r.image_id) for r in load(only, "train").records] == [("vg/11", "1")]
    assert load(only, "train").pictures["1"] == tmp_path / "vg" / "COCO_000000000001.jpg"
    without = section(tmp_path, image_data="image_data.json", coco="without")
    assert [record.image_id for record in load(without, "train").records] == ["vg/1"]


def test_further_training_questions_of_vqa_v2(tmp_path: Path) -> None:
    extra = {**section(tmp_path)["train"], "format": "visual_genome"}
    write(tmp_path / "q.json", questions())
    write(tmp_path / "a.json", annotations())
    parts = [{"questions": "q.json", "annotations": "a.json"}, extra]
    dataset = load({"format": "vqa_v2", "root": str(tmp_path), "train": parts}, "train")
    assert [record.question_id for record in dataset.records] == ["10", "11", "12", "vg/10", "vg/11"]
    assert list(dataset.pictures) == ["1", "2", "vg/1", "vg/2"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"coco": "only"}, "'coco' needs 'image_data'"),
        ({"coco": "yes", "image_data": "image_data.json"}, "'coco' must be only or without"),
        ({"questions": "image_data.json"}, "row 1, field 'qas': is missing"),
    ],
)
def test_wrong_sections_are_named(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(section(tmp_path, **entries), "train")


def test_faults_are_named(tmp_path: Path) -> None:
    data = section(tmp_path)
    double = [ASKED[0], ASKED[0]]
    write(tmp_path / "qa.json", double)
    with pytest.raises(DataError, match=r"qa\.json, field 'qa_id': question vg/10 stands twice"):
        load(data, "train")
    write(tmp_path / "qa.json", [{"qas": [{"qa_id": 1, "image_id": 1, "question": "?"}]}])
    with pytest.raises(DataError, match=r"qa\.json, row 1, field 'answer': is missing"):
        load(data, "train")
    write(tmp_path / "qa.json", [{"qas": []}])
    with pytest.raises(DataError, match="holds no questions"):
        load(data, "train")
