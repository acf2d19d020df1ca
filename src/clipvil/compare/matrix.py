"""`compare`: encoders x tasks x seeds, cell by cell, with everything written down after each cell."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipvil.compare.assemble import Assembler
from clipvil.compare.cells import debugging, finished, one_line, run_cell
from clipvil.compare.plan import CellPlan, Plan, make_plan
from clipvil.compare.report import write_report
from clipvil.compare.results import Results
from clipvil.compare.stores import features_of
from clipvil.compare.suite import EncoderEntry, Suite, merge
from clipvil.environment import hardware, package_versions
from clipvil.errors import DataError, UsageError
from clipvil.features.base import FeatureSource
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
    command: str = "",
    quiet: bool = False,
) -> Results:
    """Train one model a cell on the frozen features of each encoder, judge them all alike, and write the report.

    `suite` is a packaged name (`mini`), a YAML file or a `Suite`; the other arguments replace its parts (`seeds` as a
    number counts from 0, `overrides` are `key=value` for every recipe). Everything lies under `out`: the runs in
    `cells/`, the features in `features/`, and `results.json` and `report.html`, rewritten after every cell. The same
    call again skips finished cells and resumes a killed one at its exact step. A cell that fails is written down with
    its error and the rest goes on: look at `failures` of the results.

    Raises:
        UsageError, RecipeError, DataError: the request, a recipe or the data is wrong, before anything was computed;
            or another process works in `out`.
    """
    chosen = merge(
        suite, encoders=encoders, tasks=tasks, data=data, seeds=seeds, recipe=recipe, overrides=overrides,
        question_only=question_only,
    )  # fmt: skip
    folder = Path(out)
    with _alone(folder):
        plan = make_plan(chosen, folder)
        return _Matrix(plan, command or _command(chosen, folder), quiet).run()


def report_only(out: str | Path) -> Results:
    """Write `report.html` again from `results.json`, running nothing. Raises DataError where there are no results."""
    results = Results.load(Path(out) / RESULTS)
    write_report(results, Path(out) / REPORT)
    return results


class _Matrix:
    """Runs a plan. Holds the features of one encoder at a time."""

    def __init__(self, plan: Plan, command: str, quiet: bool) -> None:
        self.plan, self.quiet = plan, quiet
        self.assembler = Assembler(plan)
        self.assembler.about(
            command=command, environment=_environment(), started=_now(), before=_previous(plan.out / RESULTS)
        )
        self._start = time.monotonic()
        self._features: tuple[tuple[str, str], FeatureSource] | None = None

    def run(self) -> Results:
        """Every cell, finished ones first, so that the report shows at once what a killed run already had."""
        open_cells = [cell for cell in self.plan.cells if not self._take_finished(cell)]
        self._write()
        for number, cell in enumerate(open_cells, start=1):
            self._say(f"[{number}/{len(open_cells)}] {cell.task.name}, {cell.entry.title}, seed {cell.seed}")
            self._run(cell)
            self._write()
        return self.assembler.results()

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

    def _run(self, cell: CellPlan) -> None:
        start = time.monotonic()
        try:
            run = run_cell(cell, self.plan.out, self._open(cell), quiet=self.quiet)
        except Exception as error:
            if debugging():
                raise
            self.assembler.failed(cell, one_line(error))
            self._say(f"  failed: {one_line(error)}")
            return
        self.assembler.done(cell, run, time.monotonic() - start)
        split = cell.task.test_splits[0]
        score = run.scores[split].overall.value
        self._say(f"  {split} {score:.1f}, {time.monotonic() - start:.0f} s")

    def _open(self, cell: CellPlan) -> FeatureSource:
        key = (cell.entry.title, cell.task.data_key)
        if self._features is None or self._features[0] != key:
            self._features = None  # the old ones leave the memory before the new ones come
            with self._told():
                self._features = (key, features_of(cell, self.plan, quiet=self.quiet))
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


def _environment() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "clipvil": __version__,
        "python": platform.python_version(),
        "packages": package_versions(),
        **hardware(),
        "device": torch.cuda.get_device_name(0) if cuda else "CPU",
        "threads": torch.get_num_threads(),
    }


def _command(suite: Suite, out: Path) -> str:
    """The call as a command line, for callers in Python."""
    name = suite.name or f"--encoders {' '.join(entry.name for entry in suite.encoders)}"
    return f"clipvil compare {name} --out {os.fspath(out)}"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
