from __future__ import annotations

import json
from pathlib import Path

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
