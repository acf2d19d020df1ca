from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.datasets.base import check_splits
from clipvil.datasets.registry import load, split_names
from clipvil.errors import ClipvilError, DataError


def test_written_once_and_read_by_the_vqa_reader(tmp_path: Path) -> None:
    data = {"format": "mini", "root": str(tmp_path / "world"), "sizes": {"train": 3, "val": 2}}
    assert split_names(data) == ["train", "val"]
    train, val = load(data, "train"), load(data, "val")
    assert (train.name, len(train.pictures), len(val.pictures)) == ("mini", 3, 2)
    assert all(len(record.answers) == 10 for record in train.records)
    assert {record.answer_type for record in train.records} <= {"yes/no", "number", "other"}
    assert train.images[0].read().startswith(b"\x89PNG")
    assert check_splits(train, val).pictures == 0
    manifest = tmp_path / "world" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert load(data, "train").fingerprint == train.fingerprint
    assert load({"format": "mini", "root": str(tmp_path / "world")}, "val").fingerprint == val.fingerprint
    assert split_names({"format": "mini", "root": str(tmp_path / "world")}) == ["train", "val"]
    assert manifest.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="no split 'shifted'; this miniature world has train, val"):
        load(data, "shifted")
    with pytest.raises(ClipvilError, match="holds another corpus"):
        load({**data, "seed": 1}, "train")
