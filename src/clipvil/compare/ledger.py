"""What became of the cells of a plan: which are done, what they cost, which failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.compare.cell_plan import CellPlan
from clipvil.compare.plan import Plan
from clipvil.compare.results import Cell, Stored
from clipvil.training.run_files import RunResult


class Ledger:
    """Keeps account of cells; what is made of their runs is up to those who build on it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        # In an order in which everything comes after what it starts from.
        self._cells = {
            cell.path: Cell(
                encoder=cell.entry.title, task=cell.task.name, seed=cell.seed, path=cell.path,
                recipe_hash=cell.recipe.hash(), starts_from=cell.start.path if cell.start else "",
            )
            for cell in plan.runs()
        }  # fmt: skip
        self._shown = {cell.path for cell in plan.cells}
        self._runs: dict[tuple[str, str], dict[int, RunResult]] = {}
        self._about: dict[str, Any] = {}
        self._seconds_before = 0.0

    def cells(self) -> list[Cell]:
        """The cells of the matrix, in the order of the plan."""
        return [cell for path, cell in self._cells.items() if path in self._shown]

    def initial_runs(self) -> list[Cell]:
        """The runs that cells start from and that are no cells."""
        return [cell for path, cell in self._cells.items() if path not in self._shown]

    def about(self, *, command: str, environment: Mapping[str, Any], started: str, before: Stored | None) -> None:
        """What does not change while the matrix runs. `before` is what an earlier call in this folder wrote."""
        self._about = {"command": command, "environment": dict(environment), "started": started}
        if before is not None:
            self._about["started"] = before.started or started
            self._seconds_before = before.wall_seconds
            known = {(c.path, c.encoder): c for c in [*before.cells, *before.initial_runs]}
            for key, cell in self._cells.items():
                earlier = known.get((cell.path, cell.encoder))
                if earlier is not None and earlier.recipe_hash == cell.recipe_hash:
                    self._cells[key] = cell.model_copy(update={"seconds": earlier.seconds})

    def clock(self, seconds: float, now: str) -> None:
        """Seconds of this call so far, and the time of day."""
        self._about.update(wall_seconds=self._seconds_before + seconds, updated=now)

    def done(self, cell: CellPlan, run: RunResult, seconds: float | None) -> None:
        """A cell is finished. `seconds` is what this call spent on it, None where it was finished before."""
        key = cell.path
        earlier = self._cells[key].seconds or 0.0
        changes = {
            "status": "done",
            "error": "",
            "training_seconds": run.result["seconds"]["training"],
            "seconds_before": run.result.get("init", {}).get("training_seconds", 0.0),
            "seconds": self._cells[key].seconds if seconds is None else earlier + seconds,
        }
        self._cells[key] = self._cells[key].model_copy(update=changes)
        if key in self._shown:
            self._runs.setdefault((cell.entry.title, cell.task.name), {})[cell.seed] = run

    def failed(self, cell: CellPlan, error: str) -> None:
        """A cell could not be run."""
        self._cells[cell.path] = self._cells[cell.path].model_copy(update={"status": "failed", "error": error})
