from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clipvil.datasets import cache, lxmert, pretraining
from clipvil.datasets.pretraining import PretrainingSequence
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from clipvil.records import PretrainingPair
from clipvil.training.inputs import overlap

FILE = [
    {"img_id": "COCO_train2014_000000000009",
     "sentf": {"mscoco": ["A caf\u00e9.", "Two \U0001f436."], "vqa": ["Is it?"]},
     "labelf": {"vqa": [{"yes": 1.0, "no": 0.3}]}},
    {"img_id": 42, "sentf": {"vg": ["", "a man"], "vqa": ["How many?", "What?"]}, "labelf": {"vqa": [{"2": 1}, None]}},
    {"img_id": "COCO_val2014_000000000010", "sentf": {"mscoco": ["Three."]}},
]  # fmt: skip


def write(folder: Path, rows: Any = FILE, name: str = "a.json") -> Path:
    (folder / name).write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8")
    return folder / name


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """A data section, and its pictures."""
    write(tmp_path)
    for folder, name in (("t", FILE[0]["img_id"]), ("g", 42), ("v", FILE[2]["img_id"])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.jpg").touch()
    images = {"COCO_train2014": "t", "COCO_": "v", "": "g"}
    return {"format": "lxmert", "root": str(tmp_path), "cache": False, "train": {"pairs": "a.json", "images": images}}


def test_every_sentence_in_file_order(data: dict[str, Any], tmp_path: Path) -> None:
    found = load(data, "train")
    nine, ten = FILE[0]["img_id"], FILE[2]["img_id"]
    assert list(found.records) == [
        PretrainingPair(f"{nine}_mscoco_000", nine, "A caf\u00e9.", "mscoco"),
        PretrainingPair(f"{nine}_mscoco_001", nine, "Two \U0001f436.", "mscoco"),
        PretrainingPair(f"{nine}_vqa_000", nine, "Is it?", "vqa", (("yes", 1.0), ("no", 0.3))),
        PretrainingPair("42_vg_000", "42", "", "vg"),
        PretrainingPair("42_vg_001", "42", "a man", "vg"),
        PretrainingPair("42_vqa_000", "42", "How many?", "vqa", (("2", 1.0),)),
        PretrainingPair("42_vqa_001", "42", "What?", "vqa"),
        PretrainingPair(f"{ten}_mscoco_000", ten, "Three.", "mscoco"),
    ]
    assert list(found.pictures.items()) == [
        (nine, tmp_path / "t" / f"{nine}.jpg"), ("42", tmp_path / "g" / "42.jpg"), (ten, tmp_path / "v" / f"{ten}.jpg")
    ]  # fmt: skip
    assert found.records[-1] == found.records[7] and len(found.records[2:4]) == 2
    with pytest.raises(IndexError):
        found.records[8]
    assert found.records.column("image_id") == [pair.image_id for pair in found.records]
    assert found.records.sources() == {"mscoco": 3, "vqa": 3, "vg": 2}
    assert found.records.answer_counts() == {"vqa": {"yes": 1, "no": 1, "2": 1}}


def test_some_sources(data: dict[str, Any]) -> None:
    whole = load(data, "train")
    data["train"]["sources"] = ["vqa", "vg"]
    found = load(data, "train")
    assert [pair.uid for pair in found.records] == [p.uid for p in whole.records if p.source in ("vqa", "vg")]
    assert found.records.image_ids() == list(found.pictures) == [FILE[0]["img_id"], "42"]
    assert found.fingerprint != whole.fingerprint
    assert found.records.select(np.array([0])).answer_counts() == {"vqa": {"yes": 1, "no": 1}}
    data["train"]["sources"] = "gqa"
    with pytest.raises(DataError, match="no sentences of the source 'gqa'; there are mscoco, vqa, vg"):
        load(data, "train")


def test_missing_pictures_are_counted_and_named(
    data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g" / "42.jpg").unlink()
    with pytest.raises(DataError, match=r"42\.jpg: 1 of 3 pictures of the split 'train' are not there: 42"):
        load(data, "train")
    data["train"] |= {"missing": "allow", "missing_list": "gone.txt"}
    found = load(data, "train")
    assert "train: 1 of 3 pictures are not there (42); 4 of 8 sentences are left out" in capsys.readouterr().err
    assert found.records.missing == ("42",)
    assert (tmp_path / "gone.txt").read_text() == "42\n"
    assert found.records.image_ids() == list(found.pictures) == [FILE[0]["img_id"], FILE[2]["img_id"]]
    data["train"]["images"] = "nowhere"
    with pytest.raises(DataError, match="3 of 3 pictures"):
        load(data, "train")


def test_a_mismatch_is_uniform_over_all_other_pictures_and_repeats(data: dict[str, Any]) -> None:
    records = load(data, "train").records
    own, draws = records[0].image_id, 3000
    drawn = [records.mismatch(0, np.random.default_rng(i)) for i in range(draws)]
    counts = np.bincount(drawn, minlength=8)
    assert counts[:3].sum() == 0 and records[0].image_id == own
    assert np.abs(counts[3:] / draws - 1 / 5).max() < 0.03
    assert drawn[:20] == [records.mismatch(0, np.random.default_rng(i)) for i in range(20)]
    chosen = records.select(np.array([7, 0, 1]))
    assert {chosen.mismatch(0, np.random.default_rng(i)) for i in range(30)} == {1, 2}
    with pytest.raises(DataError, match="all sentences are about one picture"):
        records.select(np.array([0, 1])).mismatch(0, np.random.default_rng(0))


def test_sentences_by_picture(data: dict[str, Any]) -> None:
    order, ends = load(data, "train").records.by_picture
    assert (order.tolist(), ends.tolist()) == (list(range(8)), [3, 7, 8])
    records = load(data, "train").records.select(np.array([7, 4, 0, 3]))
    order, ends = records.by_picture
    groups = [[records[p].image_id for p in part] for part in np.split(order, ends[:-1])]
    assert groups == [[FILE[0]["img_id"]], ["42", "42"], [FILE[2]["img_id"]]]


def test_read_once_and_mapped_by_workers(data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    plain = load(data, "train")
    data["cache"] = str(tmp_path / "c")
    first = load(data, "train")
    monkeypatch.setattr(lxmert, "stream_list", lambda path: pytest.fail("parsed again"))
    second = load(data, "train")
    assert list(second.records) == list(first.records) == list(plain.records)
    assert second.fingerprint == first.fingerprint == plain.fingerprint
    assert isinstance(second.records.arrays["sentence.text"].base, object)
    assert not second.records.arrays["sentence.text"].flags.owndata
    # Sent to another process, a mapped table is a path and no copy; one without a file travels whole.
    assert list(copy.copy(second.records)) == list(plain.records) == list(copy.copy(plain.records))
    sent = second.records.select(np.array([2, 1]))
    assert b"caf" not in pickle.dumps(sent) and b"caf" in pickle.dumps(plain.records)
    again = copy.copy(sent)
    assert again.arrays is not sent.arrays and list(again) == [plain.records[2], plain.records[1]]
    # An edit is seen, also by a process that was sent the table of before.
    monkeypatch.undo()
    monkeypatch.setattr(cache, "SMALLEST", 0)
    write(tmp_path, [FILE[0]])
    about = pickle.dumps(sent)
    assert len(load(data, "train").records) == 3
    with pytest.raises(DataError, match="changed while it was in use"):
        pickle.loads(about)  # noqa: S301 - own bytes, as workers do
    second.records.kept.path.unlink()
    with pytest.raises(DataError, match="can no longer be read"):
        pickle.loads(about)  # noqa: S301


class Texts(torch.utils.data.Dataset[str]):
    def __init__(self, records: PretrainingSequence) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> str:
        return f"{os.getpid()} {self.records[index].uid}"


def test_forked_workers_read_the_same(data: dict[str, Any]) -> None:
    records = load(data, "train").records
    loader = DataLoader(Texts(records), batch_size=None, num_workers=2, multiprocessing_context="fork")
    said = [text.split() for text in loader]
    assert [uid for _, uid in said] == [pair.uid for pair in records]
    assert str(os.getpid()) not in {pid for pid, _ in said}


def test_splits_do_not_share(data: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, FILE[2:], "b.json")
    data = {"val": {"pairs": ["b.json"], "images": "v"}, **data}
    assert split_names(data) == ["train", "val"]
    assert overlap(load(data, "train").records, load(data, "val").records) == {"records": 1, "pictures": 1}
    write(tmp_path, FILE[:2], "c.json")
    train = lxmert.read_pairs([tmp_path / "c.json"])
    assert overlap(train, load(data, "val").records) == {"records": 0, "pictures": 0}


def changed(**changes: Any) -> list[Any]:
    value = {"img_id": "7", "sentf": {"vqa": ["Is it?"]}, "labelf": {"vqa": [{"yes": 1.0}]}, **changes}
    return [FILE[0], {key: item for key, item in value.items() if item is not ...}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "is empty"),
        ("[]", "holds no sentences"),
        (json.dumps(FILE)[:-30], "not valid JSON.*cut off"),
        (json.dumps(FILE)[:120], "not valid JSON"),
        ("{}", "must be a list"),
        ("[NaN]", "NaN is not JSON"),
        ([3], "row 1: must be an object, not a number"),
        (changed(img_id=...), "row 2, field 'img_id': is missing"),
        (changed(img_id=FILE[0]["img_id"]), "row 2, field 'img_id': picture .* already stands in row 1 of"),
        (changed(sentf=...), "row 2, field 'sentf': is missing"),
        (changed(sentf=["a"]), "row 2, field 'sentf': must be an object by source"),
        (changed(sentf={"vqa": "Is it?"}), "row 2, field 'sentf': 'vqa' must be a list of sentences"),
        (changed(sentf={"vqa": [5]}), "row 2, field 'sentf': must be a string, not a number"),
        (changed(sentf={"vqa": ["\ud83d"]}), "row 2, field 'sentf': holds half a Unicode character"),
        (changed(sentf={"\ud83d": ["A dog."]}, labelf=...), "row 2, field 'sentf': holds half a Unicode character"),
        (changed(labelf={"gqa": []}), "row 2, field 'labelf': has labels of 'gqa', which has no sentences"),
        (changed(labelf={"vqa": []}), "row 2, field 'labelf': 'vqa' must be a list as long as its 1 sentences"),
        (changed(labelf={"vqa": ["yes"]}), "row 2, field 'labelf': must hold an object from answer to score"),
        (
            changed(labelf={"vqa": [{"yes": 1.5}]}),
            "row 2, field 'labelf': the score of 'yes' must be a number from 0 to 1",
        ),
        (changed(labelf={"vqa": [{"yes": True}]}), "field 'labelf': the score of 'yes' must be a number"),
        (changed(labelf={"vqa": [{"yes": "1"}]}), "field 'labelf': the score of 'yes' must be a number"),
    ],
)
def test_faults_name_file_row_and_field(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.json.*{message}"):
        lxmert.read_pairs([write(tmp_path, rows)], cache=tmp_path / "c")
    assert not list((tmp_path / "c").iterdir())


def test_faults_of_the_data_section(data: dict[str, Any]) -> None:
    for change, message in (
        ({"pairs": None}, "lacks 'pairs'"),
        ({"pairs": []}, "must be a name or a list of them"),
        ({"pair": "a.json"}, "unknown entry 'pair'; did you mean 'pairs'"),
        ({"images": {"COCO_train2014": "t"}}, "no folder for the picture 42"),
        ({"template": "{:x}"}, "the template '{:x}' does not fit picture COCO"),
        ({"missing": "ignore"}, "must be error or allow"),
    ):
        with pytest.raises(DataError, match=message):
            load({**data, "train": {**data["train"], **change}}, "train")
    with pytest.raises(DataError, match="there is no split 'test'"):
        load(data, "test")
    with pytest.raises(DataError, match="must be a mapping with 'pairs'"):
        load({**data, "train": "a.json"}, "train")


def test_a_huge_line_and_files_that_are_no_files(tmp_path: Path) -> None:
    long = "x" * (9 << 20)
    (pair,) = lxmert.read_pairs([write(tmp_path, [{"img_id": "1", "sentf": {"vg": [long]}}])])
    assert pair.sentence == long
    with pytest.raises(DataError, match=r"nowhere\.json"):
        lxmert.read_pairs([tmp_path / "nowhere.json"])


KILLED = """
import sys, time
from pathlib import Path
from clipvil.datasets import lxmert, pretraining
folder = Path(sys.argv[1])
add = pretraining.PretrainingBuilder.add
def slow(self, *arguments):
    add(self, *arguments)
    if len(self) == 5:
        (folder / "half").touch()
        time.sleep(60)
pretraining.PretrainingBuilder.add = slow
lxmert.read_pairs([folder / "a.json"], cache=folder / "c")
"""


def test_killed_in_the_middle_of_building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    write(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    until = time.monotonic() + 200
    while not (tmp_path / "half").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / "half").exists()
    assert not list((tmp_path / "c").iterdir())
    assert len(lxmert.read_pairs([tmp_path / "a.json"], cache=tmp_path / "c")) == 8
    assert [path.suffix for path in (tmp_path / "c").iterdir()] == [".safetensors"]


def test_a_damaged_table_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    file = write(tmp_path)
    expected = list(lxmert.read_pairs([file], cache=tmp_path / "c"))
    (entry,) = (tmp_path / "c").iterdir()
    whole = entry.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 25)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        entry.write_bytes(damaged)
        assert list(lxmert.read_pairs([file], cache=tmp_path / "c")) == expected, place


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    (tmp_path / "c").write_text("a file where the folder should be")
    assert len(lxmert.read_pairs([write(tmp_path)], cache=tmp_path / "c")) == 8


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this machine")
    monkeypatch.setattr(pretraining, "_nameless", lambda folder: full.open("r+b", buffering=0))
    with pytest.raises(DataError, match=r"cannot be kept on disk .*free some space"):
        lxmert.read_pairs([write(tmp_path)])
