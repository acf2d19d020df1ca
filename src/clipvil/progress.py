"""Progress for long work: a bar with rate and time left on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """Counts `total` units of work; use as a context manager and call `update`.

    On a terminal a bar is drawn by rich; otherwise a line is printed to stderr at most every `every` seconds, so that
    logs stay short. `notes` (as `decode="12 %"`) are shown at the end of the line.
    """

    def __init__(
        self, total: int, label: str, *, unit: str = "items", quiet: bool = False, every: float = 10.0
    ) -> None:
        self.total, self.label, self.unit, self.quiet, self.every = total, label, unit, quiet, every
        self.done = 0
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._notes: dict[str, str] = {}

    def __enter__(self) -> Progress:
        self._start = self._last = time.monotonic()
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[notes]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, rate="", notes="")
        return self

    def update(self, n: int = 1, **notes: str) -> None:
        """Count `n` more units."""
        self.done += n
        self._notes.update(notes)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=self._rate(), notes=self._note())
        elif not self.quiet and time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """The state as one plain line."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        left = (self.total - self.done) * elapsed / self.done if self.done else float("nan")
        time_left = f", {left:.0f} s left" if self.done else ""
        note = self._note()
        return f"{self.label}: {self.done}/{self.total} {self._rate()}{time_left}{' · ' + note if note else ''}"

    def _rate(self) -> str:
        return f"{self.done / max(time.monotonic() - self._start, 1e-9):.1f} {self.unit}/s"

    def _note(self) -> str:
        return " ".join(f"{key} {value}" for key, value in self._notes.items())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if not self.quiet and kind is None:
            print(self.line(), file=sys.stderr, flush=True)


def progress(total: int, label: str, *, unit: str = "items", quiet: bool = False) -> Progress:
    """A `Progress` over `total` units, to be used in a `with` block."""
    return Progress(total, label, unit=unit, quiet=quiet)
