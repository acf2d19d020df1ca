from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets.listed import corpus_of, write_lists
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from tests.compare.corpus import write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> dict[str, Any]:
    return write_corpus(tmp_path / "corpus", pictures=20)


def ids(data: dict[str, Any], split: str) -> list[str]:
    return [record.question_id for record in load(data, split).records]


def test_splits_of_two_sources_and_none_of_the_corpus(corpus: dict[str, Any], tmp_path: Path) -> None:
    train, test = ids(corpus, "train"), ids(corpus, "test")
    lists = {"train": {"train": train[:4][::-1], "test": test[:1]}, "val": {"train": train[4:6]}}
    digest = write_lists(tmp_path / "l.json", lists, keeps=False, about={})
    data = {"format": "listed", "lists": str(tmp_path / "l.json"), "sha256": digest, "of": corpus}
    assert split_names(data) == ["train", "val"]
    found = load(data, "train")
    assert [r.question_id for r in found.records] == [*train[:4], test[0]]  # in the order of the corpus
    assert set(found.pictures) == {r.image_id for r in found.records}
    assert ids(data, "val") == train[4:6]
    with pytest.raises(DataError, match="there is no split 'test'; there are train, val"):
        load(data, "test")


def test_a_split_beside_those_of_the_corpus(corpus: dict[str, Any], tmp_path: Path) -> None:
    hard = ids(corpus, "test")[:2]
    write_lists(tmp_path / "l.json", {"hard": {"test": hard}}, keeps=True, about={})
    data = {"format": "listed", "lists": str(tmp_path / "l.json"), "of": corpus}
    assert split_names(data) == ["train", "val", *[n for n in split_names(corpus) if n not in ("train", "val")], "hard"]
    assert ids(data, "hard") == hard and ids(data, "train") == ids(corpus, "train")
    assert corpus_of({"format": "listed", "of": data}) == corpus and corpus_of(corpus) is corpus


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0" * 64}, r"l\.json.*SHA-256 differs"),
        ({"lists": "nowhere.json"}, r"nowhere\.json.*no such file"),
        ({"of": None}, r"data\.of.*must be the data section of a corpus"),
        ({"list": "x"}, "unknown entry 'list'"),
    ],
)
def test_what_is_wrong_is_said(corpus: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_lists(tmp_path / "l.json", {"hard": {"test": ids(corpus, "test")[:1]}}, keeps=False, about={})
    with pytest.raises(DataError, match=message):
        load({"format": "listed", "lists": str(tmp_path / "l.json"), "of": corpus, **change}, "hard")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "holds no lists of splits"),
        ({"kind": "clipvil.lists", "schema": 1, "splits": {}}, "splits.*must map names of splits"),
        ({"kind": "clipvil.lists", "schema": 1, "splits": {"hard": {"test": [1]}}}, r"splits\.hard\.test.*as text"),
        ({"kind": "clipvil.lists", "schema": 1, "splits": {"hard": {"test": ["zz"]}}}, "record zz is not there"),
    ],
)
def test_lists_that_are_none(corpus: dict[str, Any], tmp_path: Path, value: Any, message: str) -> None:
    path = tmp_path / "l.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=message):
        load({"format": "listed", "lists": str(path), "of": corpus}, "hard")
