from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clipvil.compare.matrix import compare
from clipvil.compare.parallel import cores, default_jobs, run_parallel
from clipvil.compare.plan import make_plan
from clipvil.compare.suite import merge
from tests.compare.corpus import write_corpus, write_recipe


@pytest.fixture
def call(tmp_path: Path) -> dict[str, Any]:
    return {"data": write_corpus(tmp_path / "corpus"), "recipe": write_recipe(tmp_path / "r.yaml"), "seeds": 2}


def test_cells_side_by_side_find_what_cells_in_turn_find(tmp_path: Path, call: dict[str, Any]) -> None:
    call |= {"encoders": ["mini/random", "open_clip/RN50:/no/such/weights.safetensors"], "quiet": True}
    turn = compare(out=tmp_path / "turn", **call)
    side = compare(out=tmp_path / "side", jobs=2, **call)
    assert [(c.encoder, c.seed, c.status) for c in side.cells] == [(c.encoder, c.seed, c.status) for c in turn.cells]
    assert len(side.rows) == 4 and len(side.failures) == 2 and side.environment["jobs"] == 2
    if cores() == 1:  # with more, a run here has other threads than a run there, and the last bits may differ
        assert [row.mean for row in side.rows] == [row.mean for row in turn.rows]
    again = compare(out=tmp_path / "side", jobs=2, **call)
    assert [row.mean for row in again.rows] == [row.mean for row in side.rows]


def test_a_worker_that_is_killed_costs_its_own_cell_alone(tmp_path: Path, call: dict[str, Any]) -> None:
    suite = merge(None, encoders=["question-only"], overrides=["schedule.steps=4"], **(call | {"seeds": 4}))
    plan = make_plan(suite, tmp_path / "out")
    killed: list[int] = []
    found = {}
    # Two at a time; one worker is killed when the first cell has ended, so that it is at its second one.
    for cell, error, _ in run_parallel(plan, plan.cells, 2, waiting=lambda cells: None):
        found[cell.seed] = error
        if not killed:
            killed = _children()[:1]
            os.kill(killed[0], signal.SIGKILL)
    assert sorted(found) == [0, 1, 2, 3]
    failed = [error for error in found.values() if error]
    assert len(failed) == 1 and "was killed by signal 9" in failed[0]


def test_workers_do_not_outlive_the_comparison(tmp_path: Path, call: dict[str, Any]) -> None:
    """SIGKILL leaves no time to tell them; an orphan would hold the run's folder against the next attempt."""
    command = [
        sys.executable,
        "-m",
        "clipvil.cli.main",
        "compare",
        "--encoders",
        "question-only",
        "--quiet",
        "--jobs",
        "2",
    ]
    command += ["--data", str(tmp_path / "corpus" / "questions.csv"), "--recipe", str(call["recipe"]), "--seeds", "2"]
    command += ["--set", "schedule.steps=100000", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 200
        while len(list((tmp_path / "out").glob("cells/*/*/seed-*/checkpoints/checkpoint-*"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline, "the cells were never seen in training"
            time.sleep(0.05)
        workers = _children(process.pid)
    finally:
        process.kill()
        process.wait()
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(_alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker lives on"
        time.sleep(0.05)


def test_as_many_jobs_as_cells_and_cores() -> None:
    assert default_jobs(1) == 1
    assert 1 <= default_jobs(100) <= max(cores(), 1)


def _children(parent: int | None = None) -> list[int]:
    """Ids of the child processes, workers of the comparison only."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(status[1]) == (parent or os.getpid()) and b"clipvil.compare.worker" in line and status[0] != "Z":
                found.append(int(entry.name))
    return sorted(found)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
