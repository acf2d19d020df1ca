from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets import cache
from clipvil.datasets.registry import load
from clipvil.errors import DataError
from tests.datasets.build import annotations, questions, write


def section(folder: Path, **entries: Any) -> dict[str, Any]:
    asked = questions()["questions"]
    for row in asked:
        row["coco_split"] = "train2014" if row["image_id"] == 1 else "val2014"
    write(folder / "q.json", asked)
    write(folder / "a.json", annotations()["annotations"])
    entry = {"questions": "q.json", "annotations": "a.json", "images": "coco", **entries}
    return {"format": "vqa_cp", "root": str(folder), "cache": str(folder / "cache"), "train": entry}


def test_bare_lists_and_pictures_of_both_coco_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    for _ in range(2):  # the second time from the cache, which must know the splits of the pictures too
        dataset = load(section(tmp_path), "train")
        assert [record.question_id for record in dataset.records] == ["10", "11", "12"]
        assert dataset.records[2].answers == ("yes",) * 10
        assert dict(dataset.pictures) == {
            "1": tmp_path / "coco/train2014/COCO_train2014_000000000001.jpg",
            "2": tmp_path / "coco/val2014/COCO_val2014_000000000002.jpg",
        }
    assert len(list((tmp_path / "cache").glob("vqa_cp-*"))) == 1


def test_own_file_names_and_prefixes(tmp_path: Path) -> None:
    dataset = load(section(tmp_path, template="{split}-{image}.png", prefix="cp/"), "train")
    assert dataset.pictures["cp/2"] == tmp_path / "coco/val2014-2.png"
    with pytest.raises(DataError, match=r"template .* does not fit picture 1"):
        load(section(tmp_path, template="{other}"), "train")


def test_faults_are_named(tmp_path: Path) -> None:
    data = section(tmp_path)
    write(tmp_path / "q.json", questions()["questions"])
    with pytest.raises(DataError, match=r"q\.json, row 1, field 'coco_split': is missing"):
        load(data, "train")
    write(tmp_path / "q.json", questions())
    with pytest.raises(DataError, match=r"q\.json: must be a list"):
        load(data, "train")
    asked = [{**row, "coco_split": (row["question_id"] % 2 and "a") or "b"} for row in questions()["questions"]]
    write(tmp_path / "q.json", asked)
    with pytest.raises(DataError, match="row 2, field 'coco_split': picture 1 had another one before"):
        load(data, "train")
