from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from clipvil.metrics.navigation import METRICS
from tests.simulator.build import square

EPISODES = [
    {"scan": "house", "path_id": 1, "path": ["sw", "se", "ne"], "heading": 0.0, "instructions": ["Go east.", "Go on."]},
    {"scan": "house", "path_id": 2, "path": ["far", "ne"], "heading": 1.0, "instructions": ["Come back."]},
]
WALKS: dict[str, list[Any]] = {
    "1_0": [["sw", 0.0, 0.0], ["sw", 1.5, 0.0], ["se", 1.5, 0.0], ["ne", 0.0, 0.0]],
    "1_1": [["sw", 0.0, 0.0]],
    "2_0": [["far", 3.1, 0.0], ["ne", 3.1, 0.0]],
}


def _run(folder: Path, rows: Any, episodes: Any = EPISODES, *more: str, name: str = "said.json") -> int:
    square(folder / "graphs")
    (folder / "episodes.json").write_text(json.dumps(episodes))
    text = rows if isinstance(rows, str) else json.dumps(rows)
    (folder / name).write_text(text)
    files = ["--episodes", str(folder / "episodes.json"), "--graphs", str(folder / "graphs")]
    return main(["score", "navigation", *files, "--predictions", str(folder / name), *more])


def _rows(changes: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return [{"instr_id": key, "trajectory": steps} for key, steps in {**WALKS, **(changes or {})}.items()]


def test_scores_and_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, _rows(), EPISODES, "--json", str(tmp_path / "out.json")) == 0
    table = capsys.readouterr().out
    assert "SR            %    66.67" in table and "NE" in table
    out = json.loads((tmp_path / "out.json").read_text())
    assert set(out["mean"]) == set(METRICS) and set(out["per_episode"]) == set(WALKS)
    assert out["mean"]["SR"] == pytest.approx(2 / 3)
    assert out["per_episode"]["1_0"] == {**dict.fromkeys(METRICS, 1.0), "PL": 4.0, "NE": 0.0, "OE": 0.0}
    assert out["per_episode"]["1_1"]["NE"] == 4.0


def test_rxr_submissions_and_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = [
        {"instruction_id": n, "path_id": n, "scan": "house", "path": ["sw", "se"], "heading": 0.0, "language": language,
         "instruction": "Go."}
        for n, language in enumerate(("en-US", "hi-IN", "te-IN"))
    ]  # fmt: skip
    lines = "\n".join(json.dumps({"instruction_id": n, "path": ["sw", "se"][: n + 1]}) for n in range(3))
    assert _run(tmp_path, lines, episodes, "--json", str(tmp_path / "out.json"), name="said.jsonl") == 0
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["per_language"]["te-IN"]["SPL"] == 1.0 and out["per_language"]["en-US"]["PL"] == 0.0
    assert "hi-IN" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"2_0": []}, "row 3, field 'trajectory': the trajectory of 2_0 is empty"),
        (
            {"2_0": [["far", 0, 0], ["sw", 0, 0]]},
            "hidden jump from element 1 to the next: no edge from far to sw, the sh",
        ),
        ({"2_0": [["far", 0, 0], ["off", 0, 0]]}, "viewpoint off is not included"),
        ({"2_0": [["far", 0, 0], ["attic", 0, 0]]}, "has no viewpoint 'attic'"),
        ({"2_0": [["ne", 0, 0]]}, "begins at ne, its episode at far"),
        ({"2_0": [["far", 0, 0], ["ne", "sw"]]}, "element 2 holds several viewpoints"),
        ({"2_0": [["far", 0]]}, "must be [viewpoint, heading, elevation]"),
        ({"2_0": [["far", 0, None]]}, "must be [viewpoint, heading, elevation]"),
        ({"2_0": [7]}, "element 1 must be a viewpoint id"),
        ({"2_0": "far"}, "must be a list"),
        ({"3_0": [["sw", 0, 0]]}, "1 trajectories belong to no episode: 3_0"),
    ],
)
def test_faults_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    assert _run(tmp_path, _rows(changes)) == 1
    said = capsys.readouterr().err
    assert message in said and "said.json" in said and said.count("\n") == 1


def test_missing_and_double_ids_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, _rows()[:1]) == 1
    assert "2 of 3 episodes have no trajectory: 1_1, 2_0" in capsys.readouterr().err
    assert _run(tmp_path, _rows() + _rows()[:1]) == 1
    assert "row 4, field 'instr_id': episode 1_0 already has a trajectory in row 1" in capsys.readouterr().err


def test_an_unknown_scan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, _rows(), [{**row, "scan": "barn"} for row in EPISODES]) == 1
    assert (
        "episodes.json, row 1, field 'scan': " in (said := capsys.readouterr().err)
        and "no graph of the scan 'barn'" in said
    )
    assert _run(tmp_path, _rows(), EPISODES, "--spl", "wrong") == 2


def test_an_instruction_with_no_words_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, _rows(), [{**EPISODES[0], "instructions": ["Go.", " ..."]}]) == 1
    assert "row 1, field 'instructions': an instruction with no words" in capsys.readouterr().err


def test_a_test_set_without_goals_is_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    starts = [{**row, "path": row["path"][:1]} for row in EPISODES]  # type: ignore[index]
    assert _run(tmp_path, _rows(), starts, "--json", str(tmp_path / "out.json")) == 1
    assert "hold the start alone, as those of test sets do" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
