from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clipvil.datasets import registry
from clipvil.datasets.base import Dataset, check_splits
from clipvil.datasets.splitting import split_pictures
from clipvil.errors import DataError
from clipvil.records import Question


def test_unknown_format() -> None:
    with pytest.raises(DataError, match=r"unknown data format 'gqaa'; known are .*custom, .*gqa, .*mini, .*vqa_v2"):
        registry.load({"format": "gqaa"}, "train")
    with pytest.raises(DataError, match="unknown data format None"):
        registry.split_names({})


def test_formats_of_third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("third_party")
    module.load = lambda data, split: Dataset("x", split, [], {})  # type: ignore[attr-defined]
    module.split_names = lambda data: ["train"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "third_party", module)
    entry = importlib.metadata.EntryPoint("x", "third_party", registry.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == registry.GROUP else [])
    assert registry.load({"format": "x"}, "train").name == "x"
    assert registry.split_names({"format": "x"}) == ["train"]
    assert "x" in registry.formats()


def dataset(split: str, rows: list[tuple[str, str]]) -> Dataset:
    records = [Question(key, image, "?") for key, image in rows]
    return Dataset("x", split, records, {image: Path(image) for _, image in rows})


def test_evaluating_on_training_questions_is_refused() -> None:
    train = dataset("train", [("1", "a"), ("2", "b")])
    assert check_splits(train, dataset("test", [("3", "b"), ("4", "c")])).pictures == 1
    with pytest.raises(DataError, match="question_id 2 of the split 'test' is also in the split 'train'"):
        check_splits(train, dataset("test", [("3", "c"), ("2", "d")]))


def test_parts_are_exact_disjoint_and_independent_of_order() -> None:
    ids = [f"p{i}" for i in range(100)]
    parts = split_pictures(ids, {"val": 0.1, "test": 0.25})
    assert sorted(map(list(parts.values()).count, ("train", "val", "test"))) == [10, 25, 65]
    assert split_pictures(reversed(ids), {"val": 0.1, "test": 0.25}) == parts
    assert split_pictures(ids, {"val": 0.1, "test": 0.25}, seed=1) != parts
    assert list(split_pictures(["a", "b", "c"], {"val": 0.01}).values()).count("val") == 1


def test_fingerprint_sees_every_field_and_the_order() -> None:
    first = dataset("train", [("1", "a"), ("2", "b")])
    assert len(first.fingerprint) == 64
    assert dataset("val", [("1", "a"), ("2", "b")]).fingerprint == first.fingerprint
    assert dataset("train", [("2", "b"), ("1", "a")]).fingerprint != first.fingerprint
    assert dataset("train", [("1", "a"), ("2", "c")]).fingerprint != first.fingerprint
