from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from clipvil.datasets.registry import load, split_names
from clipvil.errors import DataError, UsageError
from clipvil.mini import companions, corpora
from clipvil.mini.companions import write_companion, write_companions
from clipvil.mini.corpora import Corpus, write_corpus
from clipvil.mini.world import scene
from tests.mini.solver import solve

SIZES = {"train": 24, "val": 8, "test": 8, "shifted": 8}
FORMATS = ("mini_gqa", "mini_snli_ve", "mini_lxmert", "mini_vcr")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    found = write_corpus(tmp_path_factory.mktemp("companions") / "mini", SIZES)
    write_companions(found)
    return found


def hashes(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.glob("*.json*")}


def read(corpus: Corpus, name: str) -> Any:
    return json.loads((corpus.root / name).read_text("utf-8"))


def test_the_command_writes_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    sizes = ",".join(f"{split}={count}" for split, count in SIZES.items())
    assert main(["mini", str(tmp_path / "w"), "--sizes", sizes]) == 0
    assert hashes(tmp_path / "w") == hashes(corpus.root)
    assert {"gqa_train.json", "snli_ve_shifted.jsonl", "lxmert_val.json"} <= hashes(corpus.root).keys()
    assert not (corpus.root / "lxmert_test.json").exists()


def test_gqa_is_in_the_official_format_and_true(corpus: Corpus) -> None:
    fields = {
        "semantic", "entailed", "equivalent", "question", "imageId", "isBalanced", "groups", "answer", "semanticStr",
        "annotations", "types", "fullAnswer",
    }  # fmt: skip
    for split in SIZES:
        asked = read(corpus, f"gqa_{split}.json")
        entailed = {other for one in asked.values() for other in one["entailed"]}
        assert entailed == {key for key, one in asked.items() if not one["isBalanced"]} != set()
        for key, one in asked.items():
            assert set(one) == fields
            index = int(one["imageId"]) % corpora.IDS_PER_SPLIT - 1
            assert solve(one["question"], scene(0, split, index)) == one["answer"]
            assert one["types"]["structural"] in ("query", "verify", "compare")
            assert one["semantic"] and all(set(s) == {"operation", "dependencies", "argument"} for s in one["semantic"])
            for other in one["entailed"]:
                assert asked[other]["answer"] == "yes" and f" {one['answer']}?" in asked[other]["question"]
            assert key not in one["entailed"]


def test_gqa_is_scored_with_consistency(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = read(corpus, "gqa_test.json")
    said = [{"questionId": k, "prediction": q["answer"] if q["isBalanced"] else "no"} for k, q in asked.items()]
    (tmp_path / "said.json").write_text(json.dumps(said))
    line = ["score", "gqa", "--questions", str(corpus.root / "gqa_test.json"), "--predictions"]
    assert main([*line, str(tmp_path / "said.json"), "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["overall"], report["consistency"], report["distribution"]) == (100, 0, 0)
    assert report["per_steps"].keys() >= {"2", "3"}
    capsys.readouterr()


def test_snli_ve_is_in_the_official_format(corpus: Corpus) -> None:
    for split in SIZES:
        lines = (corpus.root / f"snli_ve_{split}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert lines == [json.dumps(row, sort_keys=True) for row in rows]
        for row in rows:
            assert {
                "Flickr30K_ID",
                "annotator_labels",
                "captionID",
                "gold_label",
                "pairID",
                "sentence1",
                "sentence2",
            } == set(row)
            assert re.fullmatch(r"mini_.*\.png#0r\d+[cen]", row["pairID"]) and row["pairID"][-1] == row["gold_label"][0]
        assert len({row["pairID"] for row in rows}) == len(rows) > 0


def test_lxmert_is_in_the_published_format(corpus: Corpus) -> None:
    for split in ("train", "val"):
        rows, vqa = read(corpus, f"lxmert_{split}.json"), read(corpus, f"questions_{split}.json")["questions"]
        assert [row["img_id"] for row in rows] == [str(corpora.image_id(split, i)) for i in range(SIZES[split])]
        assert [text for row in rows for text in row["sentf"]["vqa"]] == [one["question"] for one in vqa]
        for row in rows:
            assert set(row) == {"img_id", "sentf", "labelf"} and set(row["labelf"]) == {"vqa", "gqa"}
            assert len(row["sentf"]["mscoco"]) == 5
            for source, labels in row["labelf"].items():
                assert len(labels) == len(row["sentf"][source])
                assert all(label and 0 < max(label.values()) <= 1 for label in labels)


def test_nothing_is_pretrained_on_a_test_picture(corpus: Corpus) -> None:
    data = {"format": "mini_lxmert", "root": str(corpus.root)}
    assert split_names(data) == ["train", "val"]
    seen = {path for split in split_names(data) for path in load(data, split).pictures.values()}
    for name in ("mini", "mini_captions", "mini_gqa", "mini_snli_ve"):
        for split in ("test", "shifted"):
            judged = load({"format": name, "root": str(corpus.root)}, split).pictures
            assert judged and not seen & set(judged.values())
    with pytest.raises(DataError, match="no split 'test'; this miniature world is pre-trained on train, val"):
        load(data, "test")


def test_image_ids_are_common_to_all_formats(corpus: Corpus) -> None:
    """So that one feature store serves every task."""
    base = load({"format": "mini", "root": str(corpus.root)}, "train").pictures
    for name in FORMATS:
        for image, path in load({"format": name, "root": str(corpus.root)}, "train").pictures.items():
            assert base[image] == path


@pytest.mark.parametrize("name", FORMATS)
def test_written_on_first_use_and_mended(tmp_path: Path, name: str) -> None:
    data = {"format": name, "root": str(tmp_path / "w"), "sizes": {"train": 12, "val": 6}}
    first = load(data, "val")
    (file,) = (tmp_path / "w").glob(f"{name[5:]}_val.json*")
    before = file.read_bytes()
    stamp = file.stat().st_mtime_ns
    assert load(data, "val").fingerprint == first.fingerprint
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(before[:-10])
    assert list(load(data, "val").records) == list(first.records)
    assert file.read_bytes() == before
    file.unlink()
    (tmp_path / "w" / companions.MANIFEST).write_text("{broken")
    assert list(load(data, "val").records) == list(first.records)


def test_another_world_gets_other_companions(tmp_path: Path) -> None:
    write_companion(write_corpus(tmp_path / "w", {"train": 12}), "snli_ve")
    before = hashes(tmp_path / "w")
    write_companion(write_corpus(tmp_path / "w", {"train": 12}, 1, force=True), "snli_ve")
    after = hashes(tmp_path / "w")
    assert after["snli_ve_train.jsonl"] != before["snli_ve_train.jsonl"]
    with pytest.raises(UsageError, match="no companion 'nlvr'"):
        write_companion(write_corpus(tmp_path / "w", {"train": 12}, 1), "nlvr")


def test_some_sources_of_the_pretraining_pairs(corpus: Corpus) -> None:
    data = {"format": "mini_lxmert", "root": str(corpus.root), "sources": ["mscoco"]}
    assert load(data, "val").records.sources() == {"mscoco": 5 * SIZES["val"]}
