from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.datasets import registry
from clipvil.datasets.rxr import read_followers, read_rxr
from clipvil.errors import DataError
from tests.datasets.navigation_files import lines, rxr_rows, write_gz, write_json
from tests.simulator.build import square


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "list.jsonl", "list.json"])
def test_guide_files_of_every_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.startswith("list"):
        write_json(path, rxr_rows())
    elif name.endswith(".gz"):
        write_gz(path, lines(rxr_rows()))
    else:
        path.write_text(lines(rxr_rows()), encoding="utf-8")
    records = read_rxr(path, graphs=square(tmp_path / "graphs"))
    assert [r.episode_id for r in records] == ["20", "21", "22", "23"]
    assert records[1].instruction == "उत्तर की ओर जाओ" and records[1].language == "hi-IN"
    assert records[3].path == ("sw", "nw") and records[3].path_id == "11"


def test_languages_choose(tmp_path: Path) -> None:
    write_gz(tmp_path / "a.jsonl.gz", lines(rxr_rows()))
    data = {"format": "rxr", "root": tmp_path, "train": "a.jsonl.gz"}
    found = registry.load({**data, "languages": ["en", "te"]}, "train").records
    assert [record.language for record in found] == ["en-IN", "te-IN", "en-US"]
    assert [record.language for record in registry.load({**data, "languages": "hi"}, "train").records] == ["hi-IN"]
    with pytest.raises(DataError, match="must be a list of en, hi, te, not \\['fr'\\]"):
        registry.load({**data, "languages": ["fr"]}, "train")


def test_words_of_parse_trees_are_kept(tmp_path: Path) -> None:
    row = {**rxr_rows()[1], "parse_tree_origin": [{"1": {"word": "उत्तर"}, "2": {"word": "की"}}, {"1": {"word": "ओर"}}]}
    (tmp_path / "a.jsonl").write_text(lines([row]), encoding="utf-8")
    assert read_rxr(tmp_path / "a.jsonl")[0].extra == {"words": "उत्तर की ओर"}


def test_english_trees_are_passed_over_as_published(tmp_path: Path) -> None:
    row = {**rxr_rows()[0], "parse_tree_origin": [{"1": {"word": "Go"}, "2": {"word": "north."}}]}
    (tmp_path / "a.jsonl").write_text(lines([row]), encoding="utf-8")
    assert read_rxr(tmp_path / "a.jsonl")[0].extra == {}


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = write_gz(tmp_path / "a.jsonl.gz", lines(rxr_rows()))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: cannot be read as gzipped"):
        read_rxr(path)
    other = tmp_path / "b.jsonl"
    other.write_text(lines(rxr_rows())[:-30], encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.jsonl, row 4: not valid JSON"):
        read_rxr(other)
    (tmp_path / "c.jsonl").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        read_rxr(tmp_path / "c.jsonl")


def test_faults_are_named(tmp_path: Path) -> None:
    for field, value, message in (
        ("language", "fr-FR", "unknown language 'fr-FR'"),
        ("instruction", "...", "an instruction with no words"),
        ("instruction_id", 20, "row 2: episode 20 already stands in row 1"),
        ("path", ["sw", "ne"], "no edge from sw to ne"),
    ):
        rows = rxr_rows()
        rows[1][field] = value
        (tmp_path / "a.jsonl").write_text(lines(rows), encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_rxr(tmp_path / "a.jsonl", graphs=square(tmp_path / "graphs"))


def test_followers(tmp_path: Path) -> None:
    row = {"demonstration_id": 5, "instruction_id": 20, "annotator_id": 1, "path": ["sw", "se"], "metrics": {"sr": 1}}
    (tmp_path / "f.jsonl").write_text(lines([row, {**row, "demonstration_id": 6}]))
    first, second = read_followers(tmp_path / "f.jsonl")
    assert first.instruction_id == second.instruction_id == "20" and first.metrics == {"sr": 1}
    (tmp_path / "f.jsonl").write_text(lines([row, row]))
    with pytest.raises(DataError, match="demonstration 5 already stands in row 1"):
        read_followers(tmp_path / "f.jsonl")
