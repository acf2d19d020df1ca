from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets import base, cache, snli_ve
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError
from clipvil.records import Entailment
from clipvil.training.inputs import overlap
from tests.shared import shared


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of the official file; None takes a field away."""
    value = {
        "Flickr30K_ID": str(100 + number // 2), "annotator_labels": ["neutral", "", "entailment"],
        "captionID": "x.jpg#0", "gold_label": ("entailment", "neutral", "contradiction")[number % 3],
        "pairID": f"{number}.jpg#0r1e", "sentence1": "A caf\u00e9.", "sentence2": f"Dog {number} \U0001f436.",
    }  # fmt: skip
    return {key: item for key, item in {**value, **changes}.items() if item is not None}


def write(folder: Path, rows: list[Any], name: str = "train.jsonl") -> dict[str, Any]:
    """A file of such rows; returns the data section."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"format": "snli_ve", "root": str(folder), "train": {"pairs": name, "images": "pictures"}}


def test_every_field_as_it_stands(tmp_path: Path) -> None:
    data = write(tmp_path, [row(0), row(1), row(2)])
    found = load(data, "train")
    assert list(found.records) == [
        Entailment(f"{i}.jpg#0r1e", image, f"Dog {i} \U0001f436.", label, "A caf\u00e9.", ("neutral", "entailment"))
        for i, image, label in [(0, "100", "entailment"), (1, "100", "neutral"), (2, "101", "contradiction")]
    ]
    assert list(found.pictures.items()) == [(i, tmp_path / "pictures" / f"{i}.jpg") for i in ("100", "101")]
    assert found.records[-1] == found.records[2:][0] and len(found.records[1:]) == 2
    assert found.records.column("hypothesis")[1] == "Dog 1 \U0001f436."


def test_three_spellings_of_the_picture_give_one_id(tmp_path: Path) -> None:
    spellings = [
        row(0),
        row(2, Flickr30K_ID=None, Flikr30kID="100.jpg"),
        row(4, Flickr30K_ID=None, Flickr30kID="100.jpg"),
    ]
    assert load(write(tmp_path, spellings), "train").records.image_ids() == ["100"]


def test_the_tables_of_e_snli_ve(tmp_path: Path) -> None:
    text = ',Flickr30kID,hypothesis,gold_label,explanation\n0,7.jpg,"A, b",neutral,why\n1,8.jpg,C,contradiction,\n'
    (tmp_path / "dev.csv").write_text(text)
    found = load({"format": "snli_ve", "root": str(tmp_path), "val": {"pairs": "dev.csv"}}, "val")
    assert list(found.records) == [
        Entailment("dev/2", "7", "A, b", "neutral"), Entailment("dev/3", "8", "C", "contradiction")
    ]  # fmt: skip


def test_a_list_in_one_json_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([row(0), row(1)], indent=1))
    assert len(snli_ve.read_pairs(tmp_path / "a.json")) == 2


def test_pairs_without_a_gold_label_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = load(write(tmp_path, [row(0), row(2, gold_label="-"), row(3, gold_label=None)]), "train")
    assert [pair.pair_id[0] for pair in found.records] == ["0"]
    assert list(found.pictures) == ["100"]
    assert "train: 2 of 3 pairs have no gold label ('-') and are left out" in capsys.readouterr().err


def test_a_hidden_test_set_keeps_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load(write(tmp_path, [row(i, gold_label=None) for i in range(3)]), "train")
    assert [pair.label for pair in found.records] == [""] * 3
    assert capsys.readouterr().err == ""


def test_parts_and_lists_of_ids(tmp_path: Path) -> None:
    write(tmp_path, [row(i) for i in range(6)])
    write(tmp_path, [row(i) for i in range(6, 8)], "more.jsonl")
    (tmp_path / "ids.json").write_text(json.dumps([{"pairID": "1.jpg#0r1e"}, {"pairID": "2.jpg#0r1e"}]))
    (tmp_path / "pictures.txt").write_text("103\n")
    base = {"format": "snli_ve", "root": str(tmp_path)}
    cut = {"pairs": "train.jsonl", "ids": "ids.json"}
    both = load({**base, "train": [cut, {"pairs": "more.jsonl", "prefix": "m/"}]}, "train")
    assert [pair.image_id for pair in both.records] == ["100", "101", "m/103", "m/103"]
    assert (
        len(load({**base, "dev": {"pairs": "more.jsonl", "exclude": "pictures.txt"}, "train": cut}, "train").records)
        == 2
    )
    with pytest.raises(DataError, match="holds no pairs"):
        load({**base, "dev": {"pairs": "more.jsonl", "exclude": "pictures.txt"}}, "dev")
    with pytest.raises(DataError, match=r"pair 0\.jpg#0r1e stands in two parts of the split 'train'"):
        load({**base, "train": [{"pairs": "train.jsonl"}] * 2}, "train")
    with pytest.raises(DataError, match="1 of 1 ids belong to no pair of the split: 103"):
        load({**base, "train": {"pairs": "train.jsonl", "ids": "pictures.txt"}}, "train")
    with pytest.raises(DataError, match="'of' must be pair or image"):
        load({**base, "train": {"pairs": "train.jsonl", "ids": {"file": "ids.json", "of": "question"}}}, "train")
    with pytest.raises(DataError, match="mixes the format 'gqa' into 'snli_ve'"):
        load({**base, "train": [{"pairs": "train.jsonl"}, {"format": "gqa", "questions": "q.json"}]}, "train")


def test_splits_and_what_they_share(tmp_path: Path) -> None:
    data = write(tmp_path, [row(i) for i in range(6)])
    data = {"test": data["train"], **data, "val": {"pairs": "train.jsonl"}}
    assert split_names(data) == ["train", "val", "test"]
    train, val = load(data, "train"), load(data, "val")
    assert overlap(train.records, val.records) == {"records": 6, "pictures": 3}
    assert train.fingerprint == val.fingerprint


def test_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    data = {**write(tmp_path, [row(0), row(1)]), "cache": str(tmp_path / "c")}
    first = load(data, "train")
    monkeypatch.setattr(snli_ve, "_rows", lambda path: pytest.fail("parsed again"))
    second = load(data, "train")
    assert list(second.records) == list(first.records)
    assert second.fingerprint == first.fingerprint == load(data, "train").fingerprint


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0), row(1, sentence2=None)], "row 2, field 'sentence2': is missing"),
        ([row(0, sentence2=" ")], "row 1, field 'sentence2': is empty"),
        ([row(0, sentence2=["a"])], "row 1, field 'sentence2': must be a string, not a list"),
        ([row(0, Flickr30K_ID=None)], "row 1, field 'Flickr30K_ID': is missing, and so are Flikr30kID and Flickr30kID"),
        ([row(0, Flickr30K_ID=True)], "must be a whole number or a string, not true or false"),
        ([row(0, gold_label="entails")], "row 1, field 'gold_label': unknown label 'entails'; known are contradiction"),
        ([row(0, gold_label=1)], "field 'gold_label': must be a string, not a number"),
        ([row(0, annotator_labels="neutral")], "field 'annotator_labels': must be a list"),
        ([row(0, annotator_labels=["yes"])], "field 'annotator_labels': unknown label 'yes'"),
        ([row(0), row(1), row(0)], "row 3, field 'pairID': pair 0.jpg#0r1e already stands in row 1"),
        ([row(0), json.dumps(row(1))[:40]], "row 2: not valid JSON.*cut off"),
        ([row(0), "[1]"], "row 2: must be an object, not a list"),
        ([row(0), '{"pairID": NaN}'], "row 2: NaN is not JSON"),
        ([row(0), "[" * 100000], "row 2: JSON nested too deeply"),
        (["\ud800"[:0]], "holds no pairs"),
        ([row(0, sentence2="\ud83d")], "half a Unicode character"),
    ],
)  # fmt: skip
def test_faults_name_file_row_and_field(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=rf"train\.jsonl.*{message}"):
        load(write(tmp_path, rows), "train")


def test_other_files_than_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path, [row(0)])
    (tmp_path / "train.jsonl").write_bytes(json.dumps(row(0)).encode() + b"\n\xff\xfe\n")
    with pytest.raises(DataError, match="row 2: is not UTF-8 text"):
        load(data, "train")
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row(0)).encode())
    assert len(load(data, "train").records) == 1
    monkeypatch.setattr(base, "LONGEST", 1000)
    write(tmp_path, [row(0), row(1, sentence1="x" * 2000)])
    with pytest.raises(DataError, match="row 2: a line of more than"):
        load(data, "train")
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"train\.jsonl: no such file"):
        load(data, "train")


def test_the_official_miniature(tmp_path: Path) -> None:
    root = shared("data", "formats", "snli_ve")
    found = load(
        {"format": "snli_ve", "root": str(root), "t": {"pairs": "sample_pairs.jsonl", "images": "images"}}, "t"
    )
    assert sorted(found.records.column("label")) == ["contradiction"] * 4 + ["entailment"] * 6 + ["neutral"] * 6
    assert all(path.is_file() for path in found.pictures.values()) and len(found.pictures) == 2
    assert found.records[0].premise == "A toddler poses in front of a computer at a business office."
