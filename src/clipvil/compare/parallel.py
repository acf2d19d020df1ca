"""Several cells at once, each in a process of its own with its share of the cores.

The models that are trained here are small: one of them gains little from a second core, two of them side by side gain
nearly all of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from clipvil.compare.cell_plan import CellPlan
from clipvil.compare.order import Order
from clipvil.compare.plan import Plan
from clipvil.environment import cpu, hardware

_MOST = 4
_GIB_A_WORKER = 2.0
_POLL = 10.0


def default_jobs(cells: int) -> int:
    """How many cells to train at once: one on an accelerator, else as cores and memory allow, four at most."""
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return 1
    by_memory = int(float(hardware()["memory_gib"]) / _GIB_A_WORKER)
    return max(1, min(cells, cores(), by_memory, _MOST))


def cores() -> int:
    """The cores that may be used: those of this process, or fewer where OMP_NUM_THREADS says so."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    available = int(cpu()["cores"])
    return max(1, min(available, int(limit))) if limit.isdigit() else available


def run_parallel(
    plan: Plan,
    cells: Sequence[CellPlan],
    jobs: int,
    *,
    waiting: Callable[[Sequence[CellPlan]], None],
    failed: Mapping[str, str] | None = None,
) -> Iterator[tuple[CellPlan, str | None, float]]:
    """Train cells `jobs` at a time; yields each as it ends, with its error (or None) and its seconds.

    `waiting` is told from time to time which cells are being trained. A worker that dies takes its cell down as an
    error, and another takes its place. A cell waits for the one that it starts from, and ends with it should that fail,
    or be among the `failed` ones (path -> error).
    """
    order = Order(cells, failed)
    answers: queue.Queue[tuple[_Worker, str]] = queue.Queue()
    workers: list[_Worker] = []
    try:
        while True:
            for lost, reason in order.lost():
                yield lost, reason, 0.0
            _employ(order, workers, lambda: _Worker(plan, jobs, answers), jobs)
            if not any(worker.cell for worker in workers):
                return
            try:
                worker, line = answers.get(timeout=_POLL)
            except queue.Empty:
                waiting([worker.cell for worker in workers if worker.cell])
                continue
            cell = worker.cell
            if not line and worker in workers:
                workers.remove(worker)
            if cell is None:
                continue
            worker.cell = None
            error = worker.error(line)
            order.end(cell, error)
            yield cell, error, time.monotonic() - worker.since
    finally:
        for worker in workers:
            worker.stop()


def _employ(order: Order, workers: list[_Worker], hire: Callable[[], _Worker], most: int) -> None:
    """Give every cell that can be trained now to an idle worker, or to a new one while there are fewer than `most`."""
    while not order.ended:
        idle = next((worker for worker in workers if worker.cell is None), None)
        if idle is None and len(workers) >= most:
            return
        cell = order.next()
        if cell is None:
            return
        if idle is None:
            idle = hire()
            workers.append(idle)
        idle.give(cell)


class _Worker:
    """One process, and the cell it is at."""

    def __init__(self, plan: Plan, jobs: int, answers: queue.Queue[tuple[_Worker, str]]) -> None:
        threads = str(max(1, cores() // jobs))
        self.cell: CellPlan | None = None
        self.since = 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clipvil.compare.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()
        self._tell(
            {
                "suite": plan.suite.model_dump(mode="json"),
                "out": str(plan.out),
                "contents": {cell.path: cell.content for cell in plan.cells},
                "left_out": {task.data_key: dict(task.left_out) for task in plan.tasks},
            }
        )

    def give(self, cell: CellPlan) -> None:
        """Let it train a cell."""
        self.cell, self.since = cell, time.monotonic()
        self._tell({"cell": cell.path})

    def error(self, line: str) -> str | None:
        """What went wrong with the cell that `line` answers; an empty line is that of a process that died."""
        if line:
            error: str | None = json.loads(line)["error"]
            return error
        code = self.process.wait()
        how = f"was killed by signal {-code} (9: often for want of memory)" if code < 0 else f"ended with code {code}"
        return f"the process that trained this cell {how}; see what it printed above"

    def stop(self) -> None:
        """End it, whatever it is at; a checkpoint on disk is whole or absent."""
        self.process.kill()
        self.process.wait()

    def _tell(self, value: dict[str, object]) -> None:
        assert self.process.stdin is not None
        # A worker that is dead already is noticed by the end of its answers, not here.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(value) + "\n")
            self.process.stdin.flush()

    def _listen(self, answers: queue.Queue[tuple[_Worker, str]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answers.put((self, line))
        answers.put((self, ""))
