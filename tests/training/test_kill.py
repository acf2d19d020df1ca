"""SIGKILL at moments that nobody chose, in a process of its own. `benchmarks/kill_training.py` does it more often."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from clipvil.training.metric_log import read_lines
from tests.training import killable

# Not plain fork, which would copy whatever threads the tests have started; and not spawn, which imports torch anew.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.training.killable"])


def start(out: Path, workers: int) -> BaseProcess:
    here, there = SERVER.Pipe()
    process = SERVER.Process(target=killable.main, args=(out, workers, there))
    process.start()
    assert here.recv()
    return process


def kill_after(process: BaseProcess, out: Path, lines: int, seconds: float) -> bool:
    """Kill once the log has that many lines, and a little later; whether there was still something to kill."""
    log_file = out / "metrics.jsonl"
    while process.is_alive() and (not log_file.exists() or log_file.read_bytes().count(b"\n") < lines):
        time.sleep(0.001)
    process.join(seconds)
    alive = process.is_alive()
    if alive:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return alive


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_started_again_ends_bit_for_bit_as_if_undisturbed(tmp_path: Path, workers: int) -> None:
    once, often = tmp_path / "once", tmp_path / "often"
    undisturbed = start(once, workers)
    undisturbed.join()
    assert undisturbed.exitcode == 0
    moments = random.Random(workers)
    kills = 0
    for lines in (1, 6, 11):  # of 20
        kills += kill_after(start(often, workers), often, lines, moments.uniform(0, 0.02))
    assert kills
    last_try = start(often, workers)
    last_try.join()
    assert last_try.exitcode == 0
    for name in ("best.safetensors", "predictions_test.jsonl", "predictions_val.jsonl", "assets.json", "recipe.yaml"):
        assert (often / name).read_bytes() == (once / name).read_bytes(), name
    for name in ("model.safetensors", "optimiser.safetensors"):
        last = Path("checkpoints") / "checkpoint-40" / name
        assert (often / last).read_bytes() == (once / last).read_bytes(), name
    assert log(often) == log(once)


def log(out: Path) -> list[dict[str, object]]:
    lines = read_lines(out / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("seconds", "records_per_second")} for line in lines]
