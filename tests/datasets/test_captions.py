"""The readers of captions: COCO, Karpathy, Flickr, NoCaps, one's own tables, the miniature world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets.base import Dataset, check_splits
from clipvil.datasets.coco_captions import read_coco
from clipvil.datasets.flickr import read_flickr
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from clipvil.records import Caption
from tests.datasets.build import write
from tests.shared import shared

COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "COCO_val2014_000000000007.jpg"},
        {"id": 3, "file_name": "b.jpg"},
        {"id": 9, "file_name": "c.jpg"},
    ],
    "annotations": [
        {"id": 11, "image_id": 3, "caption": "A cat.\nOn a mat."},
        {"id": 10, "image_id": 7, "caption": "A dog."},
        {"id": 12, "image_id": 3, "caption": ""},
    ],
}


def coco(**changes: Any) -> dict[str, Any]:
    return {**COCO, **changes}


def test_coco(tmp_path: Path) -> None:
    write(tmp_path / "c.json", COCO)
    data = {"format": "coco_captions", "root": tmp_path, "val": {"captions": "c.json", "images": "val"}, "train": {}}
    assert split_names(data) == ["train", "val"]
    dataset = load(data, "val")
    assert list(dataset.records) == [
        Caption("3", "A cat.\nOn a mat.", "11"),
        Caption("7", "A dog.", "10"),
        Caption("3", "", "12"),
        Caption("9", ""),  # a picture without captions
    ]
    assert dataset.pictures["7"] == tmp_path / "val/COCO_val2014_000000000007.jpg"
    assert list(dataset.pictures) == ["3", "7", "9"]
    with pytest.raises(DataError, match="no split 'test'; the data section has train, val"):
        load(data, "test")


def test_coco_test_sets_have_pictures_alone(tmp_path: Path) -> None:
    write(tmp_path / "c.json", {"images": [{"id": 1}, {"id": 2}]})
    entry = {"captions": "c.json", "template": "COCO_test_{:012d}.jpg", "prefix": "t/"}
    dataset = load({"format": "coco_captions", "root": tmp_path, "test": entry}, "test")
    assert list(dataset.records) == [Caption("t/1", ""), Caption("t/2", "")]
    assert dataset.pictures["t/2"] == tmp_path / "COCO_test_000000000002.jpg"
    with pytest.raises(DataError, match="picture 1 has no file name"):
        load({"format": "coco_captions", "root": tmp_path, "test": {"captions": "c.json"}}, "test")
    with pytest.raises(DataError, match="unknown entry 'image'; did you mean 'images'"):
        load({"format": "coco_captions", "root": tmp_path, "test": {"captions": "c.json", "image": "x"}}, "test")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be an object with a list under 'images'"),
        (coco(images=[{"id": 3}, {"id": 3}]), "row 2, field 'id': picture 3 was already listed in row 1"),
        (coco(annotations={}), "field 'annotations': must be a list"),
        (
            coco(annotations=[{"id": 1, "image_id": 4, "caption": "x"}]),
            "row 1, field 'image_id': picture 4 is not listed",
        ),
        (coco(annotations=[{"id": 1, "image_id": 3}]), "row 1, field 'caption': is missing"),
        (coco(annotations=[{"id": 1, "image_id": 3, "caption": 5}]), "must be a string, not a number"),
        (coco(annotations=COCO["annotations"] * 2), "row 4, field 'id': caption 11 was already given in row 1"),
        ({"images": []}, "holds no pictures"),
        ('{"images": [', "the file seems to be cut off"),
    ],
)
def test_coco_faults_are_named(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_coco(write(tmp_path / "c.json", value))


def karpathy(**changes: Any) -> dict[str, Any]:
    def picture(number: int, split: str) -> dict[str, Any]:
        sentences = [
            {"tokens": ["a", "dog"], "raw": "A dog.", "sentid": 10 * number},
            {"tokens": ["two", "x"], "raw": "Two x!", "sentid": 10 * number + 1},
        ]
        where = {"filename": f"{number}.jpg", "filepath": "val2014", "cocoid": number}
        return {**where, "split": split, "sentences": sentences, **changes}

    return {"images": [picture(1, "test"), picture(2, "restval"), picture(3, "val"), picture(4, "train")]}


def test_karpathy_and_the_restval_rule(tmp_path: Path) -> None:
    write(tmp_path / "d.json", karpathy())
    data = {"format": "karpathy", "root": tmp_path, "captions": "d.json", "images": "coco"}
    assert split_names(data) == ["train", "val", "test"]
    train = load(data, "train")
    assert [record.image_id for record in train.records] == ["2", "2", "4", "4"]
    assert train.records[0] == Caption("2", "A dog.", "20", ("a", "dog"))
    assert train.pictures["2"] == tmp_path / "coco/val2014/2.jpg"
    apart = {**data, "restval": False}
    assert split_names(apart) == ["train", "val", "test", "restval"]
    assert [record.image_id for record in load(apart, "train").records] == ["4", "4"]
    assert check_splits(train, load(data, "test"), key="caption_id").pictures == 0


def test_karpathy_of_flickr_has_no_coco_ids(tmp_path: Path) -> None:
    value = karpathy(split="test")
    for item in value["images"]:
        del item["cocoid"], item["filepath"]
    write(tmp_path / "d.json", value)
    dataset = load({"format": "karpathy", "root": tmp_path, "captions": "d.json"}, "test")
    assert dataset.records[0].image_id == "1.jpg"
    assert dataset.pictures["1.jpg"] == tmp_path / "1.jpg"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cocoid": 5}, "row 2, field 'filename': picture 5 was already listed in row 1"),
        ({"split": None}, "row 1, field 'split': is null"),
        ({"sentences": "x"}, "row 1, field 'sentences': must be a list"),
        ({"sentences": [{"tokens": "x"}]}, "row 1, field 'tokens': sentence 1 must have a list of strings"),
    ],
)
def test_karpathy_faults_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path / "d.json", karpathy(**changes))
    with pytest.raises(DataError, match=message):
        load({"format": "karpathy", "root": tmp_path, "captions": "d.json"}, "test")


TOKENS = "a.jpg#0\tA dog .\na.jpg#1\tTwo dogs .\nb.jpg#0\tA cat # 1 .\n"
PIPES = "image_name| comment_number| comment\na.jpg| 0| A dog .\na.jpg| 1| Two | dogs .\nb.jpg| 4   A dog runs .\n"
CSV = 'image,caption\na.jpg,A dog .\na.jpg,"Two, dogs ."\nb.jpg,\n'


def test_flickr_files(tmp_path: Path) -> None:
    assert read_flickr(write(tmp_path / "t.txt", TOKENS)) == [
        Caption("a.jpg", "A dog .", "a.jpg#0"),
        Caption("a.jpg", "Two dogs .", "a.jpg#1"),
        Caption("b.jpg", "A cat # 1 .", "b.jpg#0"),
    ]
    assert [r.caption for r in read_flickr(write(tmp_path / "r.csv", PIPES))] == [
        "A dog .",
        "Two | dogs .",
        "A dog runs .",
    ]
    assert [r.caption for r in read_flickr(write(tmp_path / "c.txt", CSV))] == ["A dog .", "Two, dogs .", ""]


def test_flickr_splits_by_lists_and_by_picture(tmp_path: Path) -> None:
    write(tmp_path / "t.txt", TOKENS)
    write(tmp_path / "train.txt", "a.jpg\n\n")
    data = {"format": "flickr", "root": tmp_path, "captions": "t.txt", "images": "Images", "train": "train.txt"}
    assert split_names(data) == ["train"]
    train = load(data, "train")
    assert [record.caption_id for record in train.records] == ["a.jpg#0", "a.jpg#1"]
    assert train.pictures == {"a.jpg": tmp_path / "Images/a.jpg"}
    write(tmp_path / "train.txt", "a.jpg\nz.jpg\n")
    with pytest.raises(DataError, match=r"train\.txt, row 2: picture z\.jpg has no caption in .*t\.txt"):
        load(data, "train")
    with pytest.raises(DataError, match="drop them or 'holdout'"):
        load({**data, "holdout": {"val": 0.5}}, "train")
    held = {"format": "flickr", "root": tmp_path, "captions": "t.txt", "holdout": {"val": 0.5}}
    assert split_names(held) == ["train", "val"]
    parts = [load(held, split) for split in split_names(held)]
    assert sorted(image for part in parts for image in part.pictures) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg#0\tA dog\nb.jpg\tA cat", "row 2: must read `name.jpg#0<TAB>caption`"),
        ("a.jpg#0\tA dog\na.jpg#0\tA cat", "caption a.jpg#0 comes twice"),
        ("image_name| comment_number| comment\na.jpg| x| A dog", r"row 2: must read `name.jpg\| 0\| caption`"),
        ("image,caption\n", "holds no captions"),
        ("picture,caption\na.jpg,x\n", "row 1: the header lacks image; it has picture, caption"),
    ],
)
def test_flickr_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_flickr(write(tmp_path / "t.txt", text))


def test_flickr8k_1000() -> None:
    folder = shared("data", "flickr8k_1000")
    data = {"format": "flickr", "root": str(folder), "captions": "captions.txt", "images": "images"}
    parts = {split: load(data, split) for split in split_names(data)}
    assert {name: (len(p.records), len(p.pictures)) for name, p in parts.items()} == {
        "train": (4000, 800),
        "val": (500, 100),
        "test": (500, 100),
    }
    assert all(path.is_file() for part in parts.values() for path in part.pictures.values())


def test_nocaps_keeps_domains(tmp_path: Path) -> None:
    images = [{"id": k, "file_name": f"{k}.jpg", "domain": d} for k, d in ((0, "in-domain"), (1, "out-domain"))]
    write(tmp_path / "n.json", {"images": images, "annotations": [{"id": 5, "image_id": 1, "caption": "A lynx."}]})
    dataset = load({"format": "nocaps", "root": tmp_path, "val": {"captions": "n.json", "images": "val"}}, "val")
    assert list(dataset.records) == [
        Caption("1", "A lynx.", "5", domain="out-domain"),
        Caption("0", "", domain="in-domain"),
    ]
    assert dataset.name == "nocaps"


def custom(folder: Path, text: str, name: str = "c.csv", **more: Any) -> dict[str, Any]:
    write(folder / name, text)
    return {"format": "custom_captions", "root": str(folder), "captions": name, **more}


def test_custom_tables(tmp_path: Path) -> None:
    data = custom(tmp_path, "image,caption,split,domain\na.jpg,A dog,train,x\nb.jpg,A cat,val,\n", images="p")
    assert split_names(data) == ["train", "val"]
    assert list(load(data, "train").records) == [Caption("a.jpg", "A dog", "2", domain="x")]
    assert load(data, "val").pictures == {"b.jpg": tmp_path / "p/b.jpg"}
    lines = '{"image": "a.jpg", "captions": ["A dog", "Two"]}\n{"image": "b.jpg", "caption": "A cat"}\n'
    data = custom(tmp_path, lines, "c.jsonl", holdout={"val": 0.5})
    parts: dict[str, Dataset] = {split: load(data, split) for split in split_names(data)}
    ids = {r.caption_id for part in parts.values() for r in part.records}
    assert ids == {"1#0", "1#1", "2"}
    assert [len(part.pictures) for part in parts.values()] == [1, 1]
    write(tmp_path / "v.csv", "image,caption\nz.jpg,Hello\n")
    by_file = {"format": "custom_captions", "root": str(tmp_path), "train": "c.jsonl", "val": "v.csv"}
    assert load(by_file, "val").records[0].caption_id == "val/2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,caption,split\na.jpg,x,train\na.jpg,y,val\n",
            "row 3, field 'split': picture a.jpg is also in the split",
        ),
        (
            "image,caption,split\na.jpg,x,train\nb.jpg,y,\n",
            "row 3, field 'split': is missing, though other rows name one",
        ),
        ("image,caption,caption_id\na.jpg,x,1\na.jpg,y,1\n", "row 3, field 'caption_id': 1 was already used in row 2"),
        ("image,caption\na.jpg,\n", "row 2, field 'caption': is missing"),
        ("image,caption\n", "holds no captions"),
    ],
)
def test_custom_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(custom(tmp_path, text), "train")


def test_custom_json_faults_are_named(tmp_path: Path) -> None:
    for line, message in (
        ('{"image": "a", "captions": []}', "field 'captions': must be a list of captions"),
        ('{"image": "a", "captions": ["x"], "caption": "y"}', "either 'caption' or 'captions', not both"),
        ('{"image": "a", "captions": ["x", 5]}', "must be a string, not a number"),
    ):
        with pytest.raises(DataError, match=message):
            load(custom(tmp_path, line, "c.jsonl"), "train")
    with pytest.raises(DataError, match="needs 'captions' \\(one table\\) or 'train'"):
        load({"format": "custom_captions"}, "train")


def test_the_miniature_world_through_the_coco_reader(tmp_path: Path) -> None:
    data = {"format": "mini_captions", "root": str(tmp_path / "m"), "sizes": {"train": 3, "test": 2}}
    assert split_names(data) == ["train", "test"]
    dataset = load(data, "train")
    assert len(dataset.records) == 15
    assert all(path.is_file() for path in dataset.pictures.values())
    assert {type(record) for record in dataset.records} == {Caption}
    # The questions of the same corpus are about the same pictures.
    assert load({**data, "format": "mini"}, "train").pictures == dataset.pictures
    with pytest.raises(DataError, match="no split 'val'"):
        load(data, "val")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"restval": "no"}, r"field 'data\.restval': must be true or false, not 'no'"),
        ({"root": 5}, r"field 'data\.root': must be the name of a file or folder, not 5"),
        ({"seed": 1}, "unknown entry 'seed'"),
    ],
)
def test_wrong_entries_of_the_data_section_are_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    write(tmp_path / "d.json", karpathy())
    with pytest.raises(DataError, match=message):
        split_names({"format": "karpathy", "root": tmp_path, "captions": "d.json", **entry})
