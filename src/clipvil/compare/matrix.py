"""`compare`: encoders x tasks x seeds, cell by cell, with everything written down after each cell."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipvil.compare.assemble import Assembler
from clipvil.compare.cells import debugging, finished, one_line, progress_of, run_cell
from clipvil.compare.parallel import cores, default_jobs, run_parallel
from clipvil.compare.plan import CellPlan, Plan, make_plan
from clipvil.compare.report import write_report
from clipvil.compare.results import Results
from clipvil.compare.stores import extract_features
from clipvil.compare.suite import EncoderEntry, Suite, merge
from clipvil.environment import hardware, package_versions
from clipvil.errors import CheckpointError, DataError, UsageError
from clipvil.features.base import FeatureSource
from clipvil.training.run_files import read_run
from clipvil.version import __version__

RESULTS, REPORT = "results.json", "report.html"


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
    command: str = "",
    quiet: bool = False,
) -> Results:
    """Train one model a cell on the frozen features of each encoder, judge them all alike, and write the report.

    `suite` is a packaged name (`mini`), a YAML file or a `Suite`; the other arguments replace its parts (`seeds` as a
    number counts from 0, `overrides` are `key=value` for every recipe). Everything lies under `out`: the runs in
    `cells/`, the features in `features/`, and `results.json` and `report.html`, rewritten after every cell. The same
    call again skips finished cells and resumes a killed one at its exact step. A cell that fails is written down with
    its error and the rest goes on: look at `failures` of the results. `jobs` cells are trained at once, each in a
    process of its own (0: as many as cores and memory allow); encoders and tasks that were registered in this process
    alone are not known there.

    Raises:
        UsageError, RecipeError, DataError: the request, a recipe or the data is wrong, before anything was computed;
            or another process works in `out`.
    """
    chosen = merge(
        suite, encoders=encoders, tasks=tasks, data=data, seeds=seeds, recipe=recipe,
        overrides=overrides, question_only=question_only,
    )  # fmt: skip
    folder = Path(out)
    with _alone(folder):
        plan = make_plan(chosen, folder)
        return _Matrix(plan, command or _command(chosen, folder), jobs, quiet).run()


def report_only(out: str | Path) -> Results:
    """Write `report.html` again from `results.json`, running nothing. Raises DataError where there are no results."""
    results = Results.load(Path(out) / RESULTS)
    write_report(results, Path(out) / REPORT)
    return results


class _Matrix:
    """Runs a plan: cells one after another in this process, or `jobs` at a time in others."""

    def __init__(self, plan: Plan, command: str, jobs: int, quiet: bool) -> None:
        self.plan, self.quiet = plan, quiet
        self.assembler = Assembler(plan)
        self._start = time.monotonic()
        self._features: tuple[tuple[str, str], FeatureSource] | None = None
        self._broken: dict[tuple[str, str], Exception] = {}
        self._open_cells = [cell for cell in plan.cells if not self._take_finished(cell)]
        self._total = len(self._open_cells)
        self.jobs = min(jobs or default_jobs(self._total), max(self._total, 1))
        self.assembler.about(
            command=command, environment=_environment(self.jobs), started=_now(), before=_previous(plan.out / RESULTS)
        )

    def run(self) -> Results:
        """Every cell; what was finished before is in the report at once."""
        self._write()
        if self.jobs > 1:
            self._run_parallel()
        else:
            for number, cell in enumerate(self._open_cells, start=1):
                self._say(f"[{number}/{self._total}] {_name(cell)}")
                start = time.monotonic()
                self._end(cell, self._try(self._train, cell), time.monotonic() - start)
        return self.assembler.results()

    def _train(self, cell: CellPlan) -> None:
        features = self._open(cell)
        with self._told():
            run_cell(cell, self.plan.out, features, quiet=self.quiet)

    def _run_parallel(self) -> None:
        """Features first, one encoder at a time on all cores; then the cells, each with its share of the cores."""
        ready = []
        for cell in self._open_cells:
            error = self._try(self._open, cell)
            if error is None:
                ready.append(cell)
            else:
                self._end(cell, error, 0.0)
        self._features = None
        for cell, problem, seconds in run_parallel(self.plan, ready, self.jobs, waiting=self._waiting):
            self._end(cell, problem, seconds)

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
        if error is None:
            try:
                run = read_run(self.plan.out / cell.path)
            except CheckpointError as damaged:
                error = one_line(damaged)
            else:
                self.assembler.done(cell, run, seconds)
                split = cell.task.test_splits[0]
                self._say(f"  {_name(cell)}: {split} {run.scores[split].overall.value:.1f}, {seconds:.0f} s")
        if error is not None:
            self.assembler.failed(cell, error)
            self._say(f"  {_name(cell)}: failed: {error}")
        self._write()

    def _waiting(self, cells: Sequence[CellPlan]) -> None:
        """One line on what is being trained, from the logs of the runs."""
        done = self._total - len([c for c in self.assembler.cells() if c.status == "pending"])
        parts = [f"{cell.entry.title} seed {cell.seed} {progress_of(self.plan.out / cell.path)}" for cell in cells]
        self._say(f"{done}/{self._total} done; training {', '.join(parts)}")

    def _take_finished(self, cell: CellPlan) -> bool:
        try:
            run = finished(cell, self.plan.out)
        except Exception as error:
            # Damaged files of a finished run: said so, and left for a person to look at.
            self.assembler.failed(cell, one_line(error))
            return True
        if run is not None:
            self.assembler.done(cell, run, None)
        return run is not None

    def _open(self, cell: CellPlan) -> FeatureSource:
        key = (cell.entry.title, cell.task.data_key)
        if key in self._broken:
            raise self._broken[key]
        if self._features is None or self._features[0] != key:
            self._features = None  # the old ones leave the memory before the new ones come
            try:
                with self._told():
                    self._features = (key, extract_features(cell, self.plan, quiet=self.quiet))
            except Exception as error:
                # An encoder that does not load for one seed loads for none: no need to try, or download, again.
                self._broken[key] = error
                raise
        return self._features[1]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Warnings meant for people (untrained weights) become one line instead of a place in the code."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            yield
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                self._say(f"  {warning.message}")
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    def _write(self) -> None:
        self.assembler.clock(time.monotonic() - self._start, _now())
        results = self.assembler.results()
        results.save(self.plan.out / RESULTS)
        write_report(results, self.plan.out / REPORT)

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
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


def _previous(path: Path) -> Results | None:
    """What an earlier call wrote; a damaged or foreign file is no reason to stop, it is written anew."""
    try:
        return Results.load(path)
    except DataError:
        return None


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
