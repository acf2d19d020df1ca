from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets import mixed
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from clipvil.records import PretrainingPair
from tests.datasets.build import annotations, questions, write


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Captions and questions about pictures that are named alike, and a table of questions with file names for ids."""
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
    captions = [{"id": 7, "image_id": 2, "caption": "A dog."}, {"id": 8, "image_id": 1, "caption": "A caf\u00e9."}]
    write(tmp_path / "c.json", {"images": [*images, {"id": 3, "file_name": "3.jpg"}], "annotations": captions})
    write(tmp_path / "q.json", questions())
    write(tmp_path / "a.json", annotations())
    (tmp_path / "own.csv").write_text("image,question,answer\n2.jpg,Is it wet?,no\n")
    coco = {"format": "coco_captions", "train": {"captions": "c.json"}}
    vqa = {"format": "vqa_v2", "val": {"questions": "q.json", "annotations": "a.json", "template": "{}.jpg"}}
    own = {"format": "custom", "train": "own.csv"}
    members = [{"source": "mscoco", "data": coco}, {"source": "vqa", "data": vqa, "split": ["val"]}, {"data": own}]
    return {"format": "mixed", "root": str(tmp_path), "cache": str(tmp_path / "cache"), "train": members}


def test_captions_and_questions_become_pairs_about_common_pictures(data: dict[str, Any], tmp_path: Path) -> None:
    assert split_names(data) == ["train"]
    found = load(data, "train")
    one = 1.0
    assert list(found.records) == [
        PretrainingPair("2_mscoco_000", "2", "A dog.", "mscoco"),
        PretrainingPair("1_mscoco_000", "1", "A caf\u00e9.", "mscoco"),
        PretrainingPair("1_vqa_000", "1", "What color is the caf\u00e9?", "vqa", (("red", one),)),
        PretrainingPair("1_vqa_001", "1", "How many dogs?", "vqa", (("2", one),)),
        PretrainingPair("2_vqa_000", "2", "Is it \U0001f436?", "vqa", (("yes", one),)),
        # The picture 2.jpg, which this corpus calls by its file name, is the one that the first calls 2.
        PretrainingPair("2_custom_000", "2", "Is it wet?", "custom", (("no", one),)),
    ]
    assert dict(found.pictures) == {"2": tmp_path / "2.jpg", "1": tmp_path / "1.jpg"}
    order, ends = found.records.by_picture
    assert [found.records[p].image_id for p in order] == ["2"] * 3 + ["1"] * 3 and ends.tolist() == [3, 6]


def test_soft_labels_are_what_each_answer_would_earn(data: dict[str, Any], tmp_path: Path) -> None:
    value = annotations()
    value["annotations"][1]["answers"][0]["answer"] = "crimson"
    write(tmp_path / "a.json", value)
    labels = dict(load(data, "train").records[2].labels)
    assert labels == {"red": 1.0, "crimson": pytest.approx(0.3)}


def test_composed_once(data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "KEPT_FROM", 0)
    first = load(data, "train")
    monkeypatch.setattr(mixed, "_pairs", lambda *_: pytest.fail("composed again"))
    second = load(data, "train")
    assert list(first.records) == list(second.records) and first.fingerprint == second.fingerprint
    monkeypatch.undo()
    monkeypatch.setattr(mixed, "KEPT_FROM", 0)
    (tmp_path / "own.csv").write_text("image,question,answer\n2.jpg,Is it dry?,no\n")
    assert load(data, "train").records[-1].sentence == "Is it dry?"


def test_pretraining_pairs_keep_their_sources(data: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"img_id": "9", "sentf": {"vg": ["a man"], "gqa": ["Is it?"]}, "labelf": {"gqa": [{"yes": 1.0}]}}]
    write(tmp_path / "l.json", rows)
    (tmp_path / "9.jpg").touch()
    lxmert = {"format": "lxmert", "train": {"pairs": "l.json", "images": "."}}
    found = load({**data, "train": [{"data": lxmert}, *data["train"]]}, "train")
    assert [pair.uid for pair in found.records][:2] == ["9_vg_000", "9_gqa_000"]
    assert found.records[1].labels == (("yes", 1.0),)


def test_faults(data: dict[str, Any], tmp_path: Path) -> None:
    first = data["train"][0]
    pairs = {"Flickr30K_ID": "1", "sentence2": "so", "gold_label": "neutral", "pairID": "p"}
    (tmp_path / "s.jsonl").write_text(json.dumps(pairs))
    snli = {"format": "snli_ve", "train": {"pairs": "s.jsonl"}}
    clash = {"format": "coco_captions", "train": {"captions": "c.json", "images": "elsewhere"}}
    for train, message in (
        ([], "must be a list of members"),
        ("x", "must be a list of members"),
        ([{**first, "sourc": "x"}], "unknown entry 'sourc'"),
        ([{"source": "x"}], "lacks 'data'"),
        ([{"data": {"format": "mixed"}}], "must be the data section of another format"),
        ([{**first, "split": 5}], r"data.train\[0\].split.*the name of a split or a list of them, not 5"),
        ([{**first, "split": ["train", 5]}], "the name of a split or a list of them"),
        ([{**first, "split": []}], "the name of a split or a list of them"),
        ([first, {"data": clash}], "is .*elsewhere.* here and .* in an earlier member; give one of them a 'prefix'"),
        ([{"data": snli}], "the format snli_ve has records of the kind Entailment"),
    ):
        with pytest.raises(DataError, match=message):
            load({**data, "train": train}, "train")
    assert len(load({**data, "train": [first, {"data": clash, "prefix": "b/"}]}, "train").records) == 4
