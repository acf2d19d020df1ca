"""A protocol on one's own table of questions, and one on the miniature world in the official formats."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvil.errors import DataError, UsageError
from clipvil.metrics.statistics import average_runs, contrast, paired_difference
from clipvil.protocol.report import render
from clipvil.protocol.results import Report
from clipvil.protocol.run import protocol, report_only
from clipvil.protocol.table import render_table
from clipvil.training.run_files import read_recipe, read_run
from tests.compare.corpus import write_corpus, write_recipe


def declared(folder: Path, **changes: Any) -> dict[str, Any]:
    """Two ways of training, that differ in one setting, on forty pictures: with 8 of 24, and with all."""
    return {
        "name": "own",
        "title": "Own <data>",
        "encoder": {"name": "mini/random", "resize": "square:32"},
        "tasks": [{"name": "own", "recipe": str(write_recipe(folder / "tiny.yaml")), "data": _data(folder)}],
        "conditions": [8, "full"],
        "methods": [
            {"name": "plain"},
            {"name": "slow", "overrides": ["optimiser.lr=0.000001"], "conditions": ["8"]},
        ],
        "seeds": 2,
        **changes,
    }


def _data(folder: Path) -> dict[str, Any]:
    if not (folder / "corpus").exists():
        write_corpus(folder / "corpus")
    return {"format": "custom", "root": str(folder / "corpus"), "questions": "questions.csv"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("own")
    report = protocol(declared(folder), out=folder / "out", quiet=True)
    return {"folder": folder, "out": folder / "out", "report": report}


def test_every_cell_is_done_and_shots_are_listed(done: dict[str, Any]) -> None:
    report, out = done["report"], done["out"]
    assert len(report.cells) == 6 and all(cell.status == "done" for cell in report.cells)
    assert [task.splits for task in report.tasks] == [["test", "shifted"]]
    draws = report.tasks[0].subsets["8"]
    assert [one.draw for one in draws] == [0, 1] and all(one.pictures == 8 and one.records == 16 for one in draws)
    lists = [json.loads((out / one.file).read_text()) for one in draws]
    assert len(lists[0]) == 8 and set(lists[0]) != set(lists[1])
    index = json.loads((out / "subsets" / "index.json").read_text())
    assert [one["sha256"] for one in index["own"]["subsets"]["8"]] == [one.sha256 for one in draws]


def test_runs_were_trained_on_their_shots(done: dict[str, Any]) -> None:
    for cell in done["report"].cells:
        recipe = read_recipe(done["out"] / cell.path)
        assert (recipe.training.subset is None) == ("full" in cell.task)
        trained = read_run(done["out"] / cell.path).result["data"]["train"]["records"]
        assert trained == (48 if "full" in cell.task else 16)
        if recipe.training.subset is not None:
            assert recipe.training.subset.sha256 == done["report"].tasks[0].subsets["8"][cell.seed].sha256


def test_gains_and_drops_are_those_of_the_statistics_module(done: dict[str, Any]) -> None:
    report, scores = done["report"], {}
    for method in ("plain", "slow"):
        for split in ("test", "shifted"):
            cells = [cell for cell in report.cells if cell.task == f"own-8-{method}"]
            runs = [read_run(done["out"] / cell.path).scores[split] for cell in cells]
            scores[method, split] = average_runs([run.per_record for run in runs])
            images = {**(images if split == "shifted" else {}), **runs[0].images}  # noqa: F821
    gain = report.gain("own", "8", "slow", "test")
    own = {i: images[i] for i in scores["plain", "test"]}
    found = paired_difference(scores["slow", "test"], scores["plain", "test"], own)
    assert gain is not None
    assert (gain.value, gain.p, gain.n, gain.seeds) == (found.value, found.p, found.n, [0, 1])
    drop = report.drop("own", "8", "plain", "shifted")
    assert drop is not None
    means = {split: np.mean(list(scores["plain", split].values())) for split in ("test", "shifted")}
    assert drop.value == pytest.approx(means["test"] - means["shifted"])


def test_a_second_call_does_nothing_and_a_moved_folder_stays_done(done: dict[str, Any]) -> None:
    before = {p: p.stat().st_mtime_ns for p in done["out"].rglob("result.json")}
    again = protocol(declared(done["folder"]), out=done["out"], quiet=True)
    assert {p: p.stat().st_mtime_ns for p in done["out"].rglob("result.json")} == before
    assert again.scores == done["report"].scores and again.gains == done["report"].gains
    moved = done["folder"] / "moved"
    done["out"].rename(moved)
    try:
        protocol(declared(done["folder"]), out=moved, quiet=True)
        assert sorted(p.stat().st_mtime_ns for p in moved.rglob("result.json")) == sorted(before.values())
    finally:
        moved.rename(done["out"])


def test_results_can_be_read_and_shown_again(done: dict[str, Any]) -> None:
    loaded = Report.load(done["out"] / "results.json")
    assert loaded.scores == done["report"].scores
    (done["out"] / "report.html").unlink()
    report_only(done["out"])
    html = (done["out"] / "report.html").read_text()
    assert "Own &lt;data&gt;" in html and "<script" not in html and "polyline" in html
    text = render_table(loaded, width=100)
    assert "slow - plain:" in text and all(len(line) <= 140 for line in text.splitlines())
    with pytest.raises(DataError, match="holds no results of a protocol"):
        _other_kind(done["folder"])


def _other_kind(folder: Path) -> None:
    (folder / "other.json").write_text('{"schema_version": 1, "kind": "clipvil.compare"}')
    Report.load(folder / "other.json")


def test_a_report_says_what_is_missing(done: dict[str, Any]) -> None:
    report = done["report"].model_copy(deep=True)
    report.cells[0].status, report.cells[0].error = "failed", "<b>no memory</b>"
    report.cells[1].status = "pending"
    html = render(report)
    assert "1 run failed" in html and "&lt;b&gt;no memory" in html and "4 of 6 runs are done" in html


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditions": [8, 400]}, "400 pictures: 'own' has 24 to train on"),
        ({"methods": ["plain", {"name": "x", "overrides": ["nope=1"]}]}, "unknown key 'nope'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        protocol(declared(tmp_path, **changes), out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "cells").exists()


def test_the_small_protocol_from_the_command_line(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "clipvil.cli.main", "protocol", "mini-small", "--out", str(tmp_path / "out")]
    ended = subprocess.run([*call, "--jobs", "1", "--quiet"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    report = Report.load(tmp_path / "out" / "results.json")
    assert {task.name: task.splits for task in report.tasks} == {
        "vcr": ["test", "shifted", "rule_singular", "rule_plural"],
        "entailment": ["test", "shifted"],
        "vqa": ["test", "shifted"],
        "vqa, priors": ["test", "prior_shift"],
    }
    assert report.tasks[3].shift["prior_distance_from_train"]["prior_shift"] > 0.5
    costs = {(c.task, c.condition, c.method): c for c in report.costs}
    for task, condition, method in costs:
        if method != "probe":  # a distilled student is the plain one at inference
            assert costs[task, condition, method].parameters == costs[task, condition, "plain"].parameters
    assert costs["entailment", "20", "probe"].parameters < 10_000
    assert report.cache_bytes["texts"] > 0 and report.cache_bytes["pictures"] > 0


def test_a_contrast_of_different_records() -> None:
    rng = np.random.default_rng(0)
    a = {f"a{i}": float(v) for i, v in enumerate(rng.integers(0, 2, 200) * 100)}
    b = {f"b{i}": float(v) for i, v in enumerate(rng.integers(0, 2, 400) * 100)}
    found = contrast(a, b, {k: k for k in a}, {k: k for k in b})
    assert found.value == pytest.approx(np.mean(list(a.values())) - np.mean(list(b.values())))
    assert found.low is not None and found.high is not None and found.low < found.value < found.high
    assert found.relative == pytest.approx(100 * found.value / np.mean(list(b.values())))
    # The same records against themselves differ by nothing in every draw.
    same = contrast(a, a, {k: k for k in a}, {k: k for k in a})
    assert (same.value, same.low, same.high, same.relative) == (0.0, 0.0, 0.0, 0.0)
    few = contrast({"x": 1.0}, {"y": 0.0}, {"x": "x"}, {"y": "y"})
    assert few.low is None and few.relative is None
