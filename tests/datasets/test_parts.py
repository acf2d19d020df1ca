from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from tests.datasets.build import write


def official(folder: Path, name: str, images: list[int]) -> dict[str, str]:
    """Official files of two questions a picture, and the entry of a data section that reads them."""
    asked = [{"question_id": i * 1000 + k, "image_id": i, "question": f"q{i}.{k}?"} for i in images for k in (0, 1)]
    given = [{"question_id": q["question_id"], "answers": [{"answer": "yes"}] * 10} for q in asked]
    write(folder / f"{name}_q.json", {"questions": asked})
    write(folder / f"{name}_a.json", {"annotations": given})
    return {
        "questions": f"{name}_q.json",
        "annotations": f"{name}_a.json",
        "images": name,
        "template": f"COCO_{name}_{{:012d}}.jpg",
    }


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    train, val = official(tmp_path, "train2014", [1, 2]), official(tmp_path, "val2014", [3, 4, 5])
    write(tmp_path / "nominival.json", [3, 4])
    write(tmp_path / "minival.json", [{"question_id": 5000, "img_id": "COCO_val2014_000000000005", "label": {}}])
    return {
        "format": "vqa_v2",
        "root": str(tmp_path),
        "train": [train, {**val, "ids": "nominival.json"}],
        "val": {**val, "ids": "minival.json"},
    }


def ids(data: dict[str, Any], split: str) -> list[str]:
    return [record.question_id for record in load(data, split).records]


def test_train_and_nominival_from_official_files(data: dict[str, Any], tmp_path: Path) -> None:
    assert split_names(data) == ["train", "val"]
    train = load(data, "train")
    assert [r.question_id for r in train.records] == ["1000", "1001", "2000", "2001", "3000", "3001", "4000", "4001"]
    assert train.pictures["2"] == tmp_path / "train2014" / "COCO_train2014_000000000002.jpg"
    assert train.pictures["3"] == tmp_path / "val2014" / "COCO_val2014_000000000003.jpg"
    assert list(train.pictures) == ["1", "2", "3", "4"]
    assert ids(data, "val") == ["5000"]
    assert list(load(data, "val").pictures) == ["5"]


def test_lists_of_either_kind_as_text_or_json_kept_or_excluded(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("4\n\n5 \n")
    data["val"]["ids"] = "list.txt"
    assert ids(data, "val") == ["4000", "4001", "5000", "5001"]
    (tmp_path / "drop.txt").write_text("4001\n5000\n")
    data["val"]["exclude"] = {"file": "drop.txt"}
    assert ids(data, "val") == ["4000", "5001"]
    write(tmp_path / "list.json", [{"image_id": 3}, {"image_id": 3}])
    data["val"] = {**data["val"], "ids": "list.json", "exclude": None}
    assert ids(data, "val") == ["3000", "3001"]


def test_karpathys_splits(data: dict[str, Any], tmp_path: Path) -> None:
    images = [
        {"cocoid": i, "split": s} for i, s in [(1, "train"), (2, "train"), (3, "restval"), (4, "val"), (9, "val")]
    ]
    write(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"})
    train, val = data["train"][0], {**data["val"], "ids": None}
    karpathy = {"file": "dataset_coco.json", "split": ["train", "restval"]}
    data["train"] = [{**train, "ids": karpathy}, {**val, "ids": karpathy}]
    data["val"] = {**val, "ids": {"file": "dataset_coco.json", "split": "val"}}
    assert ids(data, "train") == ["1000", "1001", "2000", "2001", "3000", "3001"]
    assert ids(data, "val") == ["4000", "4001"]
    data["val"]["ids"] = "dataset_coco.json"
    with pytest.raises(DataError, match=r"choose with 'split'"):
        ids(data, "val")
    data["val"]["ids"] = {"file": "dataset_coco.json", "split": "vall"}
    with pytest.raises(DataError, match="has no split 'vall'; it has restval, train, val"):
        ids(data, "val")


@pytest.mark.parametrize(
    ("text", "choice", "message"),
    [
        (
            "[4, 77, 78]",
            {},
            r"list\.json: 2 of 3 ids belong to no question of the split: 77, 78; is it the list of ano",
        ),
        ("[1, 2]", {}, "2 of 2 ids belong to no question"),
        ("[3, 3000]", {}, "holds ids of questions and of pictures alike; say 'of'"),
        ("[3, 3]", {}, "names 3 twice"),
        ("[]", {}, "holds no ids"),
        ("[3.5]", {}, r"row 1, field 'id': must be a whole number or a string"),
        ('[{"question_id": 3000}, 4]', {}, "row 2: must be an object"),
        ('[{"question_id": 3000}]', {"of": "image"}, r"holds ids of questions, not of images as data\.val\.ids says"),
        ('{"a": 1}', {}, "must hold a list of ids"),
        ("[3]", {"split": "val"}, "has no splits to choose from"),
        ("[3]", {"off": "image"}, "unknown entry 'off'; did you mean 'of'"),
        ("[3]", {"of": "picture"}, "'of' must be question or image"),
    ],
)
def test_wrong_lists_are_named(
    data: dict[str, Any], tmp_path: Path, text: str, choice: dict[str, str], message: str
) -> None:
    (tmp_path / "list.json").write_text(text)
    data["val"]["ids"] = {"file": "list.json", **choice}
    with pytest.raises(DataError, match=message) as caught:
        load(data, "val")
    assert "\n" not in str(caught.value)


def test_missing_ids_may_be_allowed(data: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "list.json", [4, 77])
    data["val"]["ids"] = {"file": "list.json", "missing": "allow"}
    assert ids(data, "val") == ["4000", "4001"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": []}, "the split 'train' must be a mapping .* or a list of such"),
        ({"train": "x.json"}, "the split 'train' must be a mapping"),
        ({"train": [{"question": "q"}]}, r"data\.train section has an unknown entry 'question'"),
        ({"format": "vqa_v2", "train": {"format": "vqa"}}, r"data\.train section names the format 'vqa'; known are"),
    ],
)
def test_wrong_splits_are_named(data: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load({**data, **change}, "train")


def test_parts_that_contradict_each_other(data: dict[str, Any], tmp_path: Path) -> None:
    first = data["train"][0]
    with pytest.raises(DataError, match="question 1000 stands in two parts of the split 'train'"):
        load({**data, "train": [first, first]}, "train")
    with pytest.raises(DataError, match=r"data\.train\[1\] section gives picture 1 the file .*; give one .* 'prefix'"):
        load({**data, "train": [first, {**first, "images": "elsewhere"}]}, "train")
    other = json.loads((tmp_path / "train2014_q.json").read_text())
    for row in other["questions"]:
        row["question_id"] += 7_000_000
    write(tmp_path / "other.json", other)
    part = {"questions": "other.json", "images": "elsewhere", "prefix": "x/"}
    both = load({**data, "train": [first, part]}, "train")
    assert both.pictures["x/1"] == tmp_path / "elsewhere" / "1.jpg"
    (tmp_path / "all.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match="the split 'train' holds no questions"):
        load({**data, "train": {**first, "exclude": "all.txt"}}, "train")
