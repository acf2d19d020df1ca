from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main
from tests.datasets.navigation_files import lines, r2r_rows, rxr_rows, write_json
from tests.simulator.build import square


def test_walk_then_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square(tmp_path / "graphs")
    write_json(tmp_path / "a.json", r2r_rows())
    files = ["--episodes", str(tmp_path / "a.json"), "--graphs", str(tmp_path / "graphs")]
    for agent, success in (("shortest", 1.0), ("reference", 1.0), ("stop", 0.0)):
        assert main(["navigation", "walk", *files, "--agent", agent, "--out", str(tmp_path / "said.json")]) == 0
        said = ["--predictions", str(tmp_path / "said.json"), "--json", str(tmp_path / "out.json")]
        assert main(["score", "navigation", *files, *said]) == 0
        assert json.loads((tmp_path / "out.json").read_text())["mean"]["SR"] == success
    assert main(["navigation", "walk", *files, "--agent", "clever", "--out", str(tmp_path / "x.json")]) == 2
    assert "unknown agent 'clever'" in capsys.readouterr().err


def test_rxr_is_walked_and_written_as_its_server_wants(tmp_path: Path) -> None:
    square(tmp_path / "graphs")
    (tmp_path / "a.jsonl").write_text(lines(rxr_rows()), encoding="utf-8")
    files = ["--episodes", str(tmp_path / "a.jsonl"), "--graphs", str(tmp_path / "graphs")]
    assert main(["navigation", "walk", *files, "--out", str(tmp_path / "said.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert rows[0] == {"instruction_id": 20, "path": ["sw", "nw"]} and len(rows) == 4
    assert main(["score", "navigation", *files, "--predictions", str(tmp_path / "said.jsonl")]) == 0


def test_vocabularies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "a.json", r2r_rows())
    out = ["--out", str(tmp_path / "words.txt")]
    assert main(["navigation", "vocabulary", "--episodes", str(tmp_path / "a.json"), *out, "--min-count", "2"]) == 0
    assert (tmp_path / "words.txt").read_text().split() == ["<PAD>", "<UNK>", "<EOS>", ".", "go"]
    (tmp_path / "r.jsonl").write_text(lines(rxr_rows()), encoding="utf-8")
    rxr = ["navigation", "vocabulary", "--episodes", str(tmp_path / "r.jsonl"), *out, "--min-count", "1", "--language"]
    assert main([*rxr, "hi"]) == 0 and "of 1 instructions" in capsys.readouterr().out
    assert (tmp_path / "words.txt").read_text(encoding="utf-8").split()[3:] == ["उत्तर", "की", "ओर", "जाओ"]
    assert main([*rxr, "fr"]) == 1


def test_a_vocabulary_has_the_words_that_training_looks_up(tmp_path: Path) -> None:
    row = {**rxr_rows()[1], "parse_tree_origin": [{"1": {"word": "TV"}, "2": {"word": "tv"}}]}
    (tmp_path / "r.jsonl").write_text(lines([row]), encoding="utf-8")
    files = ["--episodes", str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "words.txt"), "--min-count", "2"]
    assert main(["navigation", "vocabulary", *files]) == 0
    assert (tmp_path / "words.txt").read_text().split()[3:] == ["tv"]


def test_houses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["navigation", "houses", str(tmp_path / "h"), "--sizes", "test=1"]) == 0
    assert "1 houses" in (said := capsys.readouterr().out) and "test" in said
    assert main(["navigation", "houses", str(tmp_path / "h"), "--sizes", "test=2"]) == 2
    assert "holds other houses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"path": ["sw", "ne"]}, "row 1, field 'path': no edge from sw to ne"),
        ({"scan": "nowhere"}, "row 1, field 'scan': {graphs}: no graph of the scan 'nowhere'"),
        ({"path": ["sw", "zz"]}, "row 1, field 'path': scan house has no viewpoint 'zz'"),
        ({"path": ["far", "off"]}, "row 1, field 'path': scan house: viewpoint off is not included in the graph"),
        ({"instructions": [" . "]}, "row 1, field 'instructions': an instruction with no words"),
    ],
)
@pytest.mark.parametrize("command", ["walk", "score", "train"])
def test_what_is_wrong_with_an_episode_is_one_line_that_names_it(
    command: str, change: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    square(tmp_path / "graphs")
    row = {"scan": "house", "path_id": 1, "path": ["sw", "se"], "heading": 0.0, "instructions": ["Go east."]}
    write_json(tmp_path / "a.json", [{**row, **change}])
    write_json(tmp_path / "said.json", [{"instr_id": "1_0", "trajectory": [["sw", 0.0, 0.0]]}])
    files = ["--episodes", str(tmp_path / "a.json"), "--graphs", str(tmp_path / "graphs")]
    data = [f"data.{split}={tmp_path / 'a.json'}" for split in ("train", "val")]
    asked = {
        "walk": ["navigation", "walk", *files, "--agent", "reference", "--out", str(tmp_path / "walked.json")],
        "score": ["score", "navigation", *files, "--predictions", str(tmp_path / "said.json")],
        "train": ["train", str(_recipe(tmp_path)), "data.format=r2r", f"data.root={tmp_path}", "data.graphs=graphs",
                  *data, "encoder.name=question-only", "--out", str(tmp_path / "run")],
    }[command]  # fmt: skip
    assert main(asked) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said.format(graphs=tmp_path / "graphs") in lines[0] and "a.json" in lines[0]
    assert not (tmp_path / "walked.json").exists()


def _recipe(folder: Path) -> Path:
    (folder / "walk.yaml").write_text("task: navigation\ntask_settings: {min_word_count: 1}\n")
    return folder / "walk.yaml"
