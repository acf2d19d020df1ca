from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.cli.main import main

GOLD = [("a", "entailment", "1"), ("b", "neutral", "1"), ("c", "contradiction", "2"), ("d", "-", "2")]


def files(folder: Path, said: Any) -> list[str]:
    rows = [{"pairID": k, "gold_label": g, "Flickr30K_ID": i, "sentence2": "so"} for k, g, i in GOLD]
    (folder / "gold.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = folder / ("said.csv" if isinstance(said, str) else "said.json")
    path.write_text(said if isinstance(said, str) else json.dumps(said))
    return ["score", "entailment", f"--annotations={folder / 'gold.jsonl'}", f"--predictions={path}"]


def said(**labels: str) -> list[dict[str, str]]:
    return [{"pairID": key, "gold_label": label} for key, label in labels.items()]


RIGHT = said(a="entailment", b="neutral", c="neutral")


def test_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    assert main([*files(tmp_path, [*RIGHT, *said(d="neutral")]), "--json", str(out)]) == 0
    captured = capsys.readouterr()
    assert "accuracy                           66.67" in captured.out
    assert "  contradiction                      0             0             1" in captured.out
    assert "1 pairs without a gold label ('-') are not scored" in captured.err
    report = json.loads(out.read_text())
    assert (report["overall"], report["n"], report["without_gold_label"]) == (66.67, 3, 1)
    assert report["per_pair"] == {"a": 100, "b": 100, "c": 0}
    assert report["classes"]["contradiction"]["precision"] == {"value": None, "n": 0, "interval": None}
    assert report["classes"]["neutral"]["precision"]["value"] == 50
    assert report["confusion"]["contradiction"] == {"contradiction": 0, "entailment": 0, "neutral": 1}


@pytest.mark.parametrize(
    "rows",
    [
        [{"pair_id": row["pairID"], "label": row["gold_label"]} for row in RIGHT],
        [{"record_id": row["pairID"], "output": row["gold_label"], "image_id": "1"} for row in RIGHT],
        "pairID,label\na,entailment\nb,neutral\nc,neutral\n",
    ],
)
def test_other_ways_to_write_predictions(tmp_path: Path, rows: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files(tmp_path, rows)) == 0
    assert "66.67" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (RIGHT[:2], "1 pairs are not judged: c"),
        ([*RIGHT, *said(z="neutral")], "1 judgements belong to no pair: z"),
        ([*RIGHT, *RIGHT[:1]], "row 4, field 'pairID': pair a was already judged in row 1"),
        (said(a="maybe"), "row 1, field 'gold_label': unknown label 'maybe'"),
        ([{"pairID": "a"}], "row 1, field 'gold_label': is missing"),
        ([], "holds no labels"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, rows: list[Any], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files(tmp_path, rows)) == 1
    error = capsys.readouterr().err
    assert message in error and "said.json" in error
    assert error.count("\n") == 1
