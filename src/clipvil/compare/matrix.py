"""`compare`: encoders x tasks x seeds, cell by cell, with everything written down after each cell."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from clipvil.compare import wording
from clipvil.compare.assemble import Assembler
from clipvil.compare.cell_plan import CellPlan
from clipvil.compare.cells import debugging, finished, one_line, progress_of, run_cell
from clipvil.compare.ledger import Ledger
from clipvil.compare.left_out import describe, left_out
from clipvil.compare.order import Order
from clipvil.compare.parallel import cores, default_jobs, run_parallel
from clipvil.compare.plan import Plan, check_encoders, make_plan
from clipvil.compare.report import render, save_page, write_report
from clipvil.compare.results import Results, Stored
from clipvil.compare.stores import extract_features, stored_features
from clipvil.compare.suite import EncoderEntry, Suite, merge
from clipvil.environment import hardware, package_versions
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.notices import told
from clipvil.training.run_files import read_run
from clipvil.version import __version__

RESULTS, REPORT = "results.json", "report.html"
R = TypeVar("R", bound=Stored)


def compare(
    suite: str | Path | Suite | None = None,
    *,
    out: str | Path,
    encoders: Sequence[str | Mapping[str, Any] | EncoderEntry] | None = None,
    tasks: Sequence[str] | None = None,
    data: Mapping[str, Any] | str | Path | None = None,
    seeds: int | Sequence[int] | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    question_only: bool | None = None,
    jobs: int = 1,
    retry_failed: bool = False,
    command: str = "",
    quiet: bool = False,
) -> Results:
    """Train one model a cell on the frozen features of each encoder, judge them all alike, and write the report.

    `suite` is a packaged name (`mini`), a YAML file or a `Suite`; the other arguments replace its parts (`seeds` as a
    number counts from 0, `overrides` are `key=value` for every recipe). Everything lies under `out`: the runs in
    `cells/`, the features in `features/`, and `results.json` and `report.html`, rewritten after every cell. The same
    call again skips finished cells and resumes a killed one at its exact step. A cell that fails is written down with
    its error and the rest goes on: look at `failures` of the results. All features are extracted before a cell is
    trained: a picture that one encoder has none of is left out for every row, and `retry_failed` tries such pictures
    again; where the set changes, cells are trained anew. `jobs` cells are trained at once, each in a
    process of its own (0: as many as cores and memory allow); encoders and tasks that were registered in this process
    alone are not known there.

    Raises:
        UsageError, RecipeError, DataError: the request, a name in it, a recipe or the data is wrong, before anything
            was computed; or another process works in `out`.
    """
    chosen = merge(
        suite, encoders=encoders, tasks=tasks, data=data, seeds=seeds, recipe=recipe,
        overrides=overrides, question_only=question_only,
    )  # fmt: skip
    folder = Path(out)
    with alone(folder):
        plan = make_plan(chosen, folder)
        check_encoders(plan)
        matrix = _Comparison(plan, command or _command(chosen, folder), jobs, retry_failed, quiet)
        matrix.run()
        return matrix.results()


def report_only(out: str | Path) -> Results:
    """Write `report.html` again from `results.json`, running nothing. Raises DataError where there are no results."""
    results = Results.load(Path(out) / RESULTS)
    write_report(results, Path(out) / REPORT)
    return results


class Matrix(ABC, Generic[R]):
    """Runs a plan: cells one after another in this process, or `jobs` at a time in others.

    What is written of it, again after every cell, is up to those who build on it: `kept` is what `results.json` holds,
    and `page` makes the report of it.
    """

    kept: type[R]
    page: Callable[[R], str]

    def __init__(self, plan: Plan, command: str, jobs: int, retry_failed: bool, quiet: bool) -> None:
        self.command, self.retry_failed, self.quiet = command, retry_failed, quiet
        self._start, self._started = time.monotonic(), _now()
        self._before = self._earlier(plan.out / RESULTS)
        self._asked_jobs = jobs
        self._ready: set[Path | None] = {None}
        self._broken: dict[Path | None, str] = {}
        self._look(plan)

    @abstractmethod
    def open_ledger(self, plan: Plan) -> Ledger:
        """An account of the cells of a plan, with nothing in it."""

    @abstractmethod
    def results(self) -> R:
        """Everything that is known now."""

    def _earlier(self, path: Path) -> R | None:
        """What an earlier call wrote; a damaged or foreign file is no reason to stop, it is written anew."""
        try:
            return self.kept.load(path)
        except DataError:
            return None

    def _tell_left_out(self) -> None:
        """Say which pictures no cell may use."""
        for task in self.plan.tasks:
            if found := describe(task):
                self.say(f"{task.name}: {wording.left_out_line(found)}")

    def run(self) -> None:
        """Every cell; what was finished before is in the report at once."""
        self._write()
        self._extract_all()
        self._tell_left_out()
        todo = [cell for cell in self._open_cells if not self._end_broken(cell)]
        if self.jobs > 1:
            parallel = run_parallel(self.plan, todo, self.jobs, waiting=self._waiting, failed=self._failed)
            for cell, problem, seconds in parallel:
                self._end(cell, problem, seconds)
        else:
            self._one_by_one(Order(todo, self._failed))

    def _one_by_one(self, order: Order) -> None:
        while True:
            for lost, problem in order.lost():
                self._end(lost, problem, 0.0)
            cell = order.next()
            if cell is None:
                return
            self.say(f"[{self._ended + 1}/{self._total}] {_name(cell)}")
            start = time.monotonic()
            error = self._try(self._train, cell)
            order.end(cell, error)
            self._end(cell, error, time.monotonic() - start)

    def _look(self, plan: Plan) -> None:
        """Take up a plan: which pictures no cell may use, as far as the stores tell by now, and what is left to do."""
        self.plan = plan.leaving_out(left_out(plan, self._broken.keys()))
        self.ledger = self.open_ledger(self.plan)
        self._failed: dict[str, str] = {}
        opened: list[CellPlan] = []
        initials = {run.path for run in self.plan.initials}
        # Last things first: what a finished cell started from is needed no more, and no checkpoints of it.
        for run in sorted(self.plan.runs(), key=lambda run: -len(run.starts())):
            needed = run.path not in initials or any(run.path in {s.path for s in one.starts()} for one in opened)
            if needed and not self._take_finished(run, keep=self.plan.keeps_checkpoints(run, opened)):
                opened.append(run)
        paths = {run.path for run in opened}
        self._open_cells = [run for run in self.plan.runs() if run.path in paths]
        self._total, self._ended = len(self._open_cells), 0
        self.jobs = min(self._asked_jobs or default_jobs(self._total), max(self._total, 1))
        self.ledger.about(
            command=self.command, environment=_environment(self.jobs), started=self._started, before=self._before
        )

    def _extract_all(self) -> None:
        """The features of all open cells, one encoder at a time on all cores.

        What comes of it may open further cells: those that were finished on other pictures than can be used now.
        """
        wanted = self._open_cells
        if self.retry_failed:
            blamed = {key for key, pictures in left_out(self.plan).items() if pictures}
            opened = {cell.path for cell in wanted}
            wanted = [cell for cell in self.plan.cells if cell.path in opened or cell.task.data_key in blamed]
        while missing := [cell for cell in wanted if self.plan.store_path(cell) not in self._known()]:
            # A store is made of all pictures of the task that it belongs to, not of those that another one reads of it.
            for cell in sorted(missing, key=lambda cell: bool(cell.task.pictures_key)):
                if self.plan.store_path(cell) not in self._known():
                    self._extract(cell)
            self._look(self.plan)
            self._write()
            wanted = self._open_cells

    def _known(self) -> set[Path | None]:
        """The stores that were opened or found unusable in this call."""
        return self._ready | self._broken.keys()

    def _extract(self, cell: CellPlan) -> None:
        path = self.plan.store_path(cell)
        self.say(f"features of {cell.entry.title} for {cell.task.name}")
        error = self._try(self._open, cell)
        if error is None:
            self._ready.add(path)
        else:
            # An encoder that does not load for one seed loads for none: no need to try, or download, again.
            self._broken[path] = error

    def _open(self, cell: CellPlan) -> None:
        with told(lambda line: self.say(f"  {line}")):
            extract_features(cell, self.plan, retry_failed=self.retry_failed, quiet=self.quiet)

    def _end_broken(self, cell: CellPlan) -> bool:
        """Write down a cell whose encoder has no features; whether it is one."""
        error = self._broken.get(self.plan.store_path(cell))
        if error is not None:
            self._end(cell, error, 0.0)
        return error is not None

    def _train(self, cell: CellPlan) -> None:
        with told(lambda line: self.say(f"  {line}")):
            keep = self.plan.keeps_checkpoints(cell)
            run_cell(cell, self.plan.out, stored_features(cell, self.plan), keep=keep, quiet=self.quiet)

    def _try(self, work: Callable[[CellPlan], object], cell: CellPlan) -> str | None:
        """Do it; the error in one line, or None."""
        try:
            work(cell)
        except Exception as error:
            if debugging():
                raise
            return one_line(error)
        return None

    def _end(self, cell: CellPlan, error: str | None, seconds: float) -> None:
        """Take in a cell that ended, well or not, and write everything down."""
        self._ended += 1
        if error is None:
            try:
                run = read_run(self.plan.out / cell.path)
            except CheckpointError as damaged:
                error = one_line(damaged)
            else:
                self.ledger.done(cell, run, seconds)
                split = cell.task.test_splits[0]
                self.say(f"  {_name(cell)}: {split} {run.scores[split].overall.value:.1f}, {seconds:.0f} s")
        if error is not None:
            self._fail(cell, error)
            self.say(f"  {_name(cell)}: failed: {error}")
        self._write()

    def _fail(self, cell: CellPlan, error: str) -> None:
        self._failed[cell.path] = error
        self.ledger.failed(cell, error)

    def _waiting(self, cells: Sequence[CellPlan]) -> None:
        """One line on what is being trained, from the logs of the runs."""
        parts = [f"{cell.entry.title} seed {cell.seed} {progress_of(self.plan.out / cell.path)}" for cell in cells]
        self.say(f"{self._ended}/{self._total} done; training {', '.join(parts)}")

    def _take_finished(self, cell: CellPlan, *, keep: bool) -> bool:
        try:
            run = finished(cell, self.plan.out, keep=keep)
        except Exception as error:
            # Damaged files of a finished run: said so, and left for a person to look at.
            self._fail(cell, one_line(error))
            return True
        if run is not None:
            self.ledger.done(cell, run, None)
        return run is not None

    def _write(self) -> None:
        """Write results and report of what the ledger holds."""
        self.ledger.clock(time.monotonic() - self._start, _now())
        results = self.results()
        results.save(self.plan.out / RESULTS)
        save_page(type(self).page(results), self.plan.out / REPORT)

    def say(self, line: str) -> None:
        """One line of progress."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)


class _Comparison(Matrix[Results]):
    """A matrix whose rows are encoders."""

    ledger: Assembler
    kept, page = Results, staticmethod(render)

    def open_ledger(self, plan: Plan) -> Assembler:
        """The assembler of the report."""
        return Assembler(plan)

    def results(self) -> Results:
        """Everything that is known now."""
        return self.ledger.results()


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder of the comparison. The lock ends with the process, however it ends."""
    import fcntl

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out wants a folder")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{out}: another process compares in this folder") from None
        yield


def _name(cell: CellPlan) -> str:
    return f"{cell.task.name}, {cell.entry.title}, seed {cell.seed}"


def _environment(jobs: int) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "clipvil": __version__,
        "python": platform.python_version(),
        "packages": package_versions(),
        **hardware(),
        "device": torch.cuda.get_device_name(0) if cuda else "CPU",
        "jobs": jobs,
        "threads": torch.get_num_threads() if jobs == 1 else max(1, cores() // jobs),
    }


def _command(suite: Suite, out: Path) -> str:
    """The call as a command line, for callers in Python."""
    name = suite.name or f"--encoders {' '.join(entry.name for entry in suite.encoders)}"
    return f"clipvil compare {name} --out {os.fspath(out)}"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
