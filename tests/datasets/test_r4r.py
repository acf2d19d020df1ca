from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.cli.main import main
from clipvil.datasets import registry
from clipvil.datasets.r4r import build, write_r4r
from clipvil.errors import DataError
from tests.datasets.navigation_files import r2r_rows, write_json
from tests.shared import shared
from tests.simulator.build import square
from tests.simulator.recorded import real_graphs


def test_val_seen_gives_the_published_counts() -> None:
    built = build(shared("data", "r2r", "R2R_val_seen.json"), real_graphs())
    assert (len(built.rows), built.too_far, built.instructions) == (115, 2269, 1035)
    assert built.mean("path") == pytest.approx(12.2173913043) and built.mean("shortest_path") == 7.0
    # The published mean is 20.3605: the graphs of that time differed by a little.
    assert built.mean("distance") == pytest.approx(20.3579, abs=5e-5)


def test_joined_paths_follow_edges_and_read_back(tmp_path: Path) -> None:
    graphs = square(tmp_path / "graphs")
    built = build(write_json(tmp_path / "a.json", r2r_rows()), graphs)
    # 7 then 9: the first ends where the second begins; 7 then 7 and 9 then any are further apart than 3 m.
    assert [row["first_path_id"] for row in built.rows] == [7] and built.too_far == 3
    assert built.rows[0]["path"] == ["sw", "se", "ne", "far"]
    assert built.rows[0]["instructions"] == ["Walk east. Go up. ", "Go, then turn left!Go up. "]
    write_r4r(built, tmp_path / "out.json")
    data = {"format": "r4r", "root": tmp_path, "graphs": "graphs", "train": "out.json"}
    assert [record.episode_id for record in registry.load(data, "train").records] == ["0_0", "0_1"]
    wider = build(tmp_path / "a.json", graphs, threshold=4.0)
    assert [row["path"] for row in wider.rows][:1] == [["sw", "se", "ne", "se", "sw", "se", "ne"]]
    with pytest.raises(DataError, match="no two paths can be joined; 3 pairs"):
        write_r4r(type(built)([], built.too_far), tmp_path / "none.json")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square(tmp_path / "graphs")
    write_json(tmp_path / "a.json", r2r_rows())
    files = ["--episodes", str(tmp_path / "a.json"), "--graphs", str(tmp_path / "graphs")]
    assert main(["navigation", "r4r", *files, "--out", str(tmp_path / "out.json")]) == 0
    assert "1 paths, 2 instructions" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out.json").read_text())) == 1
