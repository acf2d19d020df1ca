from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clipvil.datasets import registry
from clipvil.datasets.base import Dataset, check_splits
from clipvil.datasets.splitting import split_pictures
from clipvil.errors import ClipvilError, DataError
from clipvil.records import Question


def test_unknown_format() -> None:
    with pytest.raises(DataError, match=r"unknown data format 'gqaa'; known are .*custom, .*gqa, .*mini, .*vqa_v2"):
        registry.load({"format": "gqaa"}, "train")
    with pytest.raises(DataError, match="the data section names no format; known are"):
        registry.split_names({})
    for value in ([1], {"name": "mini"}, 3):
        with pytest.raises(DataError, match=r"field 'data\.format': must be text, not"):
            registry.split_names({"format": value})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"format": "custom", "questions": 5}, r"'data\.questions': must be the name of a file or folder, not 5"),
        ({"format": "custom", "questions": ["q.csv"]}, r"'data\.questions': must be .* not a list"),
        ({"format": "custom", "questions": "q.csv", "images": 5}, r"'data\.images': must be the name of a file"),
        ({"format": "custom", "questions": "q.csv", "root": True}, r"'data\.root': must be the name of a file"),
        ({"format": "custom", "questions": "q.csv", "seed": "abc"}, r"'data\.seed': must be a whole number, not 'abc'"),
        ({"format": "custom", "questions": "q.csv", "holdout": "x"}, r"'data\.holdout': must map"),
        ({"format": "custom", "train": 5}, r"'data\.train': must be the name of a file or folder"),
        ({"format": "easy_vqa", "seed": "abc"}, r"'data\.seed': must be a whole number"),
        ({"format": "easy_vqa", "root": 5}, r"'data\.root': must be the name of a file or folder"),
        ({"format": "mini", "root": 5}, r"'data\.root': must be the name of a file or folder"),
        ({"format": "mini", "root": "absent", "seed": 1.5}, r"'data\.seed': must be a whole number, not 1\.5"),
        ({"format": "mini", "root": "absent", "sizes": 5}, "sizes: must give pictures a split"),
        ({"format": "vqa_v2", "train": 5}, r"'data\.train': the split 'train' must be a mapping"),
        ({"format": "vqa_v2", "train": {"questions": 5}}, r"'data\.train\.questions': must be the name"),
        (
            {"format": "vqa_v2", "train": {"questions": "q.json", "annotations": 5}},
            r"'data\.train\.annotations': must be the name",
        ),
        (
            {"format": "vqa_v2", "root": "v2", "train": {"questions": "q.json", "images": 5}},
            r"'data\.train\.images': must be the name",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, object], message: str
) -> None:
    (tmp_path / "v2").mkdir()
    question = '{"question_id": 1, "image_id": 1, "question": "Why?"}'
    (tmp_path / "v2" / "q.json").write_text(f'{{"questions": [{question}]}}')
    (tmp_path / "q.csv").write_text("image,question\n" + "".join(f"{i}.jpg,Why?\n" for i in range(20)))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClipvilError, match=message):
        for split in registry.split_names(data):
            registry.load(data, split)


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


def test_train_is_never_left_empty() -> None:
    shares = {"val": 0.1, "test": 0.1}
    assert sorted(split_pictures(["a", "b", "c"], shares).values()) == ["test", "train", "val"]
    with pytest.raises(DataError, match=r"2 pictures are too few to split: val and test .* add .* a column 'split'"):
        split_pictures(["a", "b"], shares)


def test_fingerprint_sees_every_field_and_the_order() -> None:
    first = dataset("train", [("1", "a"), ("2", "b")])
    assert len(first.fingerprint) == 64
    assert dataset("val", [("1", "a"), ("2", "b")]).fingerprint == first.fingerprint
    assert dataset("train", [("2", "b"), ("1", "a")]).fingerprint != first.fingerprint
    assert dataset("train", [("1", "a"), ("2", "c")]).fingerprint != first.fingerprint
