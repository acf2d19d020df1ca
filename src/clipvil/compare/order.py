"""In which order runs are done: what another starts from comes before it, and takes it down when it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipvil.compare.cell_plan import CellPlan


class Order:
    """Runs that are to be done, given out one by one as they become possible.

    `failed` are runs that cannot be had any more, by their path, and why.
    """

    def __init__(self, runs: Sequence[CellPlan], failed: Mapping[str, str] | None = None) -> None:
        self._waiting = list(runs)
        self._open = {run.path for run in runs}
        self._failed = dict(failed or {})

    def next(self) -> CellPlan | None:
        """The first run that nothing is missing for; None where there is none, be it for now."""
        for place, run in enumerate(self._waiting):
            if run.start is None or (run.start.path not in self._open and run.start.path not in self._failed):
                return self._waiting.pop(place)
        return None

    def end(self, run: CellPlan, error: str | None) -> None:
        """A run that was given out has ended, well or not."""
        self._open.discard(run.path)
        if error is not None:
            self._failed[run.path] = error

    def lost(self) -> list[tuple[CellPlan, str]]:
        """Runs that cannot be done, because what they start from failed, with the reason; they are not given out."""
        out: list[tuple[CellPlan, str]] = []
        while found := next((run for run in self._waiting if run.start and run.start.path in self._failed), None):
            assert found.start is not None
            reason = self._failed[found.start.path]
            # The first cause alone, however long the chain.
            error = reason if reason.startswith(_LOST) else f"{_LOST} ({found.start.path}): {reason}"
            self._waiting.remove(found)
            self.end(found, error)
            out.append((found, error))
        return out

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to give out."""
        return not self._waiting


_LOST = "the run that it starts from failed"
