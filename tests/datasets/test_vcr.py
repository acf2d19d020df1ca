from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets import vcr
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from tests.datasets.vcr_files import BOXES, vcr_row, write_vcr


def data(folder: Path, **entry: Any) -> dict[str, Any]:
    return {"format": "vcr", "root": str(folder), "val": {"annotations": "val.jsonl", **entry}}


def test_tags_groups_and_boxes_are_read(tmp_path: Path) -> None:
    write_vcr(tmp_path, [vcr_row(0), vcr_row(1, question=["Why", "?"])])
    dataset = load(data(tmp_path), "val")
    first, second = dataset.records
    assert first.question == ("Where", "is", (1,), "going", "?")
    assert first.answers[3][0] == (0, 1)
    assert (first.answer_label, first.rationale_label) == (1, 0)
    assert first.objects == ("person", "person", "car")
    assert first.boxes[0] == (10, 20, 30, 60)
    assert len(first.boxes) == len(BOXES)
    assert first.size == (100, 100)
    assert second.annotation_id == "val-1"
    assert dict(dataset.pictures) == {"val-0": tmp_path / "m/a.jpg"}
    assert split_names(data(tmp_path)) == ["val"]


def test_a_test_set_has_no_labels_and_records_survive_pickling_and_selection(tmp_path: Path) -> None:
    rows = [vcr_row(n) for n in range(4)]
    for row in rows:
        del row["answer_label"], row["rationale_label"]
    write_vcr(tmp_path, rows)
    records = load(data(tmp_path), "val").records
    assert records[2].answer_label is None
    chosen = pickle.loads(pickle.dumps(records.select([3, 1])))  # type: ignore[attr-defined]  # noqa: S301
    assert [record.annotation_id for record in chosen] == ["val-3", "val-1"]
    assert chosen.column("image_id") == ["val-0", "val-0"]
    assert chosen[0] == records[3]


def test_metadata_may_lie_elsewhere_or_not_be_wanted(tmp_path: Path) -> None:
    write_vcr(tmp_path, [vcr_row()])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "m").rename(tmp_path / "elsewhere/m")
    assert load(data(tmp_path, metadata="elsewhere"), "val").records[0].boxes
    assert load(data(tmp_path, boxes=False), "val").records[0].boxes == ()


@pytest.mark.parametrize(
    ("fields", "metadata", "message"),
    [
        ({}, None, r"val.jsonl, row 1, field 'metadata_fn': there is no metadata file .*a.json.*boxes: false"),
        ({}, {"boxes": BOXES[:2]}, r"row 1, field 'objects': names 3 objects, and .*a.json has 2 boxes"),
        ({}, {"boxes": [*BOXES[:2], [9, 9, 1, 1, 1]]}, r"a.json, field 'boxes\[2\]': its end lies before"),
        ({}, {"boxes": [*BOXES[:2], [1, 2]]}, r"a.json, field 'boxes\[2\]': must be x1"),
        ({}, {"boxes": BOXES, "width": 0, "height": 3}, r"a.json, field 'width': must be a number above 0"),
        ({}, [], r"a.json, field 'boxes': must be an object"),
        ({"question": ["Is", [3], "?"]}, ..., r"row 1, field 'question': tag 3 names no object; the row has 3"),
        ({"question": ["Is", [-1], "?"]}, ..., r"tag -1 names no object"),
        ({"question": ["Is", [], "?"]}, ..., r"field 'question': a token must be a word or a list"),
        ({"question": ["Is", [1.0], "?"]}, ..., r"a tag must be a whole number"),
        ({"answer_choices": [["a"]] * 3}, ..., r"field 'answer_choices': must be a list of 4 sentences, not 3"),
        ({"answer_label": 4}, ..., r"field 'answer_label': must be a whole number from 0 to 3, not 4"),
        ({"objects": "person"}, ..., r"field 'objects': must be a list of class names"),
        ({"annot_id": None}, ..., r"row 1, field 'annot_id': is null"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, fields: Any, metadata: Any, message: str) -> None:
    write_vcr(tmp_path, [vcr_row(**fields)], metadata)
    with pytest.raises(DataError, match=message) as caught:
        load(data(tmp_path), "val")
    assert "\n" not in str(caught.value)


def test_a_question_twice_and_a_misspelt_entry(tmp_path: Path) -> None:
    write_vcr(tmp_path, [vcr_row(), vcr_row(1), vcr_row()])
    with pytest.raises(DataError, match=r"row 3, field 'annot_id': question val-0 already stands in row 1"):
        vcr.read_vcr(tmp_path / "val.jsonl")
    with pytest.raises(DataError, match=r"did you mean 'annotations'"):
        split_names({"format": "vcr", "val": {"annotation": "val.jsonl"}})
