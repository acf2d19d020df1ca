from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipvil.datasets import registry
from clipvil.datasets.r2r import read_r2r
from clipvil.errors import DataError
from clipvil.records import Episode
from tests.datasets.navigation_files import r2r_rows, write_json
from tests.shared import shared
from tests.simulator.build import square
from tests.simulator.recorded import real_graphs


def test_real_val_seen_has_the_published_counts() -> None:
    records = read_r2r(shared("data", "r2r", "R2R_val_seen.json"), graphs=real_graphs())
    assert len(records) == 1021 and len({record.path_id for record in records}) == 340
    assert {len(record.path) for record in records} <= {4, 5, 6, 7}
    assert len({record.scan for record in records}) == 56


def test_an_instruction_is_an_episode(tmp_path: Path) -> None:
    records = read_r2r(write_json(tmp_path / "a.json", r2r_rows()))
    assert records[1] == Episode("7_1", "house", "Go, then turn left!", ("sw", "se", "ne"), 1.5, "en", "7")
    assert [record.episode_id for record in records] == ["7_0", "7_1", "9_0"]


def test_augmentation_paths_have_no_text(tmp_path: Path) -> None:
    rows = r2r_rows()
    rows[1].pop("path_id")
    rows[1].pop("instructions")
    data = {
        "format": "r2r",
        "root": tmp_path,
        "augmented": {"episodes": "aug.json", "instructions": "none"},
        "train": "train.json",
    }
    write_json(tmp_path / "aug.json", rows)
    records = registry.load(data, "augmented").records
    assert [(r.episode_id, r.instruction) for r in records] == [("7_0", ""), ("row2_0", "")]
    assert registry.split_names(data) == ["train", "augmented"]
    with pytest.raises(DataError, match="must be 'none' or absent"):
        registry.load({**data, "augmented": {"episodes": "aug.json", "instructions": "some"}}, "augmented")


def test_lists_of_ids_choose(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", r2r_rows())
    (tmp_path / "paths.txt").write_text("7\n")
    write_json(tmp_path / "episodes.json", ["7_1", "9_0"])
    (tmp_path / "other.txt").write_text("7\n8\n")

    def ids(**entry: str) -> list[str]:
        data = {"format": "r2r", "root": tmp_path, "val_seen": {"episodes": "a.json", **entry}}
        return [record.episode_id for record in registry.load(data, "val_seen").records]

    assert ids(ids="paths.txt") == ["7_0", "7_1"] and ids(exclude="paths.txt") == ["9_0"]
    assert ids(ids="episodes.json") == ["7_1", "9_0"]
    with pytest.raises(DataError, match="1 ids are neither all episodes nor all paths of the split, as 8"):
        ids(ids="other.txt")
    with pytest.raises(DataError, match="holds no episodes"):
        ids(ids="paths.txt", exclude="paths.txt")


def test_data_sections_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no split 'test'"):
        registry.load({"format": "r2r", "train": "a.json"}, "test")
    with pytest.raises(DataError, match="did you mean 'episodes'"):
        registry.load({"format": "r2r", "train": {"episode": "a.json"}}, "train")
    with pytest.raises(DataError, match="no such file"):
        registry.load({"format": "r2r", "root": tmp_path, "train": "a.json"}, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[0].update(path=["sw", "ne"]), "row 1, field 'path': no edge from sw to ne"),
        (lambda r: r[1].update(path=["far", "off"]), "row 2, field 'path': scan house: viewpoint off is not included"),
        (lambda r: r[1].update(path=["attic"]), "scan house has no viewpoint 'attic'"),
        (lambda r: r[1].update(scan="barn"), "no graph of the scan 'barn'"),
        (lambda r: r[1].update(path=[]), "must be a list of viewpoint ids, not empty"),
        (lambda r: r[1].update(path=["ne", 3]), "must be a string, not a number"),
        (lambda r: r[1].update(heading="north"), "row 2, field 'heading': must be a finite number"),
        (lambda r: r[1].update(instructions=["?!"]), "an instruction with no words: '?!'"),
        (lambda r: r[1].update(instructions="Go."), "must be a list of strings"),
        (lambda r: r[1].update(path_id=7), "row 2: episode 7_0 already stands in row 1"),
        (lambda r: r[1].pop("scan"), "row 2, field 'scan': is missing"),
        (lambda r: r.clear(), "holds no episodes"),
    ],
)
def test_faults_are_named(tmp_path: Path, change: Any, message: str) -> None:
    rows = r2r_rows()
    change(rows)
    with pytest.raises(DataError) as caught:
        read_r2r(write_json(tmp_path / "a.json", rows), graphs=square(tmp_path / "graphs"))
    assert message in str(caught.value) and "a.json" in str(caught.value)
