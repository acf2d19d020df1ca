from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from clipvil.compare.cells import one_line
from clipvil.compare.matrix import compare
from clipvil.compare.report import render
from clipvil.compare.results import Results
from clipvil.compare.table import render_table
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.metrics.statistics import paired_difference
from clipvil.training.run_files import read_run
from tests.compare.corpus import write_corpus, write_recipe

# A name as good as any, whose weights cannot be had.
ABSENT = "open_clip/RN50:/no/such/weights.safetensors"
ENCODERS = ["mini/random", {"name": "mini/random", "resize": "square:64", "label": "larger"}, ABSENT]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two encoders that work, one that does not exist, the floor; two seeds."""
    folder = tmp_path_factory.mktemp("world")
    data = write_corpus(folder / "corpus")
    recipe = write_recipe(folder / "tiny.yaml")
    call = {"encoders": ENCODERS, "recipe": recipe, "data": data, "seeds": 2, "out": folder / "out", "quiet": True}
    return {"call": call, "out": folder / "out", "results": compare(**call)}


def test_every_cell_is_done_but_those_of_the_encoder_that_does_not_exist(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    status = {(c.encoder, c.seed): c.status for c in results.cells}
    assert len(status) == 8
    assert {key for key, value in status.items() if value == "failed"} == {(ABSENT, 0), (ABSENT, 1)}
    assert all(
        "no file or folder at /no/such/weights" in cell.error and "\n" not in cell.error for cell in results.failures
    )
    assert all((world["out"] / cell.path / "result.json").exists() for cell in results.cells if cell.status == "done")


def test_rows_say_what_the_runs_say(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    for row in results.rows:
        for seed in row.per_seed:
            cell = next(c for c in results.cells if (c.encoder, c.seed) == (row.encoder, seed.seed))
            run = read_run(world["out"] / cell.path)
            assert run.scores[row.split].overall.value == seed.value
        assert row.mean.value == pytest.approx(np.mean([seed.value for seed in row.per_seed]))
        assert {g: i.n for g, i in row.breakdowns["question_type"].items()} == {"color": 4, "count": 4}
    assert [task.splits for task in results.tasks] == [["test", "shifted"]]
    assert len(results.rows) == 6 and results.reference == "mini/random"


def test_differences_are_those_of_the_statistics_module(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    scores = {}
    for label in ("larger", "question-only"):
        paths = [world["out"] / c.path for c in results.cells if c.encoder == label]
        runs = [read_run(path).scores["test"] for path in paths]
        scores[label] = {i: float(np.mean([run.per_record[i] for run in runs])) for i in runs[0].per_record}
        images = runs[0].images
    expected = paired_difference(scores["larger"], scores["question-only"], images)
    found = results.difference("tiny", "test", "larger", "question-only")
    assert found is not None
    assert (found.value, found.low, found.high, found.p) == (expected.value, expected.low, expected.high, expected.p)
    assert len(results.differences) == 6 and found.seeds == [0, 1]


def test_costs_curves_and_gallery_are_there(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    costs = results.encoder("mini/random").costs
    assert costs.parameters and costs.gflops and costs.pictures_per_second and costs.store_bytes
    assert results.encoder("larger").costs.gflops == pytest.approx(4 * costs.gflops, rel=0.2)
    assert results.encoder("question-only").costs.parameters is None
    assert {len(curve.points) for curve in results.curves} == {3} and len(results.curves) == 6
    entries = [entry for group in results.gallery for entry in group.entries]
    assert entries and all(entry.thumbnail and len(entry.answers) == 3 for entry in entries)
    assert {entry.prompt for entry in entries} <= {"what color is it", "how many are there"}


def test_seeds_share_one_store_and_options_have_their_own(world: dict[str, Any]) -> None:
    stores = sorted(path.name.rpartition("-")[0] for path in (world["out"] / "features").iterdir())
    assert stores == ["larger", "mini-random"]


def test_files_agree_with_what_was_returned(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    assert Results.load(world["out"] / "results.json") == results
    assert (world["out"] / "report.html").read_text(encoding="utf-8") == render(results)
    assert f"failed: {ABSENT}, tiny, seed 0" in render_table(results)
    assert results.environment["packages"]["torch"] and results.wall_seconds > 0


def test_calling_again_trains_nothing_and_finds_the_same(world: dict[str, Any]) -> None:
    before = {path: path.stat().st_mtime_ns for path in world["out"].rglob("result.json")}
    again = compare(**world["call"])
    assert {path: path.stat().st_mtime_ns for path in world["out"].rglob("result.json")} == before
    assert again.rows == world["results"].rows and again.differences == world["results"].differences
    assert [c.seconds for c in again.cells] == [c.seconds for c in world["results"].cells]
    assert again.wall_seconds > world["results"].wall_seconds


def test_a_changed_recipe_sets_old_runs_aside_and_trains_anew(tmp_path: Path) -> None:
    call = {
        "encoders": ["question-only"],
        "data": write_corpus(tmp_path / "corpus"),
        "out": tmp_path / "out",
        "quiet": True,
    }
    compare(recipe=write_recipe(tmp_path / "r.yaml"), **call)
    results = compare(recipe=tmp_path / "r.yaml", overrides=["schedule.steps=4"], **call)
    cells = tmp_path / "out" / "cells" / "r" / "question-only"
    assert sorted(path.name for path in cells.iterdir()) == ["seed-0", "seed-0.old-1"]
    assert [curve.points[-1][0] for curve in results.curves] == [4]
    assert results.suite["overrides"] == ["schedule.steps=4"]


def test_a_moved_folder_keeps_its_cells(tmp_path: Path) -> None:
    """`{out}` in the data section makes a comparison independent of where it lies."""
    write_corpus(tmp_path / "a" / "corpus")
    data = {"format": "custom", "root": "{out}/corpus", "questions": "questions.csv"}
    call = {"encoders": ["mini/random"], "question_only": False, "data": data, "quiet": True}
    recipe = write_recipe(tmp_path / "r.yaml")
    compare(recipe=recipe, out=tmp_path / "a", **call)
    (tmp_path / "a").rename(tmp_path / "b")
    before = (tmp_path / "b" / "cells/r/mini-random/seed-0/result.json").stat().st_mtime_ns
    results = compare(recipe=recipe, out=tmp_path / "b", **call)
    assert results.complete and [path.name for path in (tmp_path / "b" / "cells/r/mini-random").iterdir()] == ["seed-0"]
    assert (tmp_path / "b" / "cells/r/mini-random/seed-0/result.json").stat().st_mtime_ns == before


def test_a_damaged_run_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    call = {
        "encoders": ["question-only"],
        "data": write_corpus(tmp_path / "corpus"),
        "out": tmp_path / "out",
        "quiet": True,
    }
    call |= {"recipe": write_recipe(tmp_path / "r.yaml"), "seeds": 2}
    compare(**call)
    (tmp_path / "out/cells/r/question-only/seed-1/result.json").write_text("{")
    results = compare(**call)
    assert [cell.status for cell in results.cells] == ["done", "failed"]
    assert "damaged" in results.failures[0].error and len(results.rows[0].per_seed) == 1


def test_a_killed_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of the second cell: the first is not touched, the second ends as if undisturbed."""
    data = write_corpus(tmp_path / "corpus")
    suite = {"encoders": ["question-only"], "tasks": [str(tmp_path / "r.yaml")], "data": data, "seeds": [0, 1]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    write_recipe(tmp_path / "r.yaml", steps=300)  # long enough to be caught at it
    _kill_in_second_cell(tmp_path / "suite.yaml", tmp_path / "killed")
    partly = Results.load(tmp_path / "killed" / "results.json")
    assert [cell.status for cell in partly.cells] == ["done", "pending"]
    assert "Not finished: 1 of 2 runs are done" in (tmp_path / "killed" / "report.html").read_text(encoding="utf-8")
    cells = "cells/r/question-only"
    first = (tmp_path / "killed" / cells / "seed-0" / "result.json").stat().st_mtime_ns
    assert compare(tmp_path / "suite.yaml", out=tmp_path / "killed", quiet=True).complete
    assert (tmp_path / "killed" / cells / "seed-0" / "result.json").stat().st_mtime_ns == first
    compare(tmp_path / "suite.yaml", out=tmp_path / "whole", quiet=True)
    for path in (f"{cells}/seed-0/best.safetensors", f"{cells}/seed-1/best.safetensors"):
        assert (tmp_path / "killed" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


def _kill_in_second_cell(suite: Path, out: Path) -> None:
    """Run the comparison in a process of its own and kill it once the second cell has a checkpoint."""
    command = [sys.executable, "-m", "clipvil.cli.main", "compare", str(suite), "--quiet", "--out", str(out)]
    # As many threads as here: sums, and so the last bits of the weights, depend on it.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 200
        while not list(out.glob("cells/r/question-only/seed-1/checkpoints/checkpoint-*")):
            assert process.poll() is None and time.monotonic() < deadline, "the second cell was never seen in training"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_run_that_cannot_be_resumed_is_set_aside_and_trained_anew(tmp_path: Path) -> None:
    """As after an update of the library that gave the model other sizes."""
    data, recipe = write_corpus(tmp_path / "corpus"), write_recipe(tmp_path / "r.yaml")
    call: dict[str, Any] = {"encoders": ["question-only"], "data": data, "recipe": recipe, "quiet": True}
    whole = compare(out=tmp_path / "whole", **call)
    compare(out=tmp_path / "out", **call)
    run = tmp_path / "out" / "cells/r/question-only/seed-0"
    (run / "result.json").unlink()
    (run / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    results = compare(out=tmp_path / "out", **call)
    assert results.complete and [row.mean for row in results.rows] == [row.mean for row in whole.rows]
    assert (run.with_name("seed-0.old-1") / "checkpoints" / "checkpoint-2").is_dir()


def test_errors_are_cut_to_a_readable_length() -> None:
    assert one_line(ValueError("a\nb " * 400)).startswith("ValueError: a b a b")
    assert len(one_line(ValueError("a\nb " * 400))) < 330
    assert one_line(DataError("wrong", file="x.csv", row=3)) == "x.csv, row 3: wrong"


def test_what_is_wrong_from_the_start_is_said_before_anything_runs(tmp_path: Path) -> None:
    data, recipe = write_corpus(tmp_path / "corpus"), write_recipe(tmp_path / "r.yaml")
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match=r"schedule\.step"):
        compare(encoders=["question-only"], recipe=recipe, data=data, overrides=["schedule.step=1"], out=out)
    with pytest.raises(DataError, match="no such file"):
        compare(encoders=["question-only"], recipe=recipe, data={**data, "questions": "absent.csv"}, out=out)
    with pytest.raises(UsageError, match="names no data; give --data"):
        compare(encoders=["question-only"], recipe=recipe, out=out)
    for wrong, says in (
        ("nowhere/at-all", "no encoder library 'nowhere'"),
        ("open_clip/RN50:openia", "no weights 'openia'"),
        ({"name": "mini/random", "layer": "blok:1"}, "layer 'blok:1' is not understood"),
        ({"name": "mini/random", "resize": "sqare"}, "unknown resize policy 'sqare'"),
    ):
        with pytest.raises(UsageError, match=says):
            compare(encoders=["mini/random", wrong], recipe=recipe, data=data, out=out, quiet=True)
    assert not (out / "features").exists()
    with pytest.raises(UsageError, match="is a file"):
        compare(encoders=["question-only"], recipe=recipe, data=data, out=recipe)
    assert not (out / "cells").exists()
