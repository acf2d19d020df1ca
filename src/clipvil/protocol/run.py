"""`protocol`: everything that a declaration asks, cell by cell, with one report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.compare.matrix import REPORT, RESULTS, Matrix, alone
from clipvil.compare.plan import Plan, check_encoders, make_plan
from clipvil.protocol.assemble import ProtocolLedger
from clipvil.protocol.declaration import Declaration
from clipvil.protocol.planning import Place, Scheme, make_scheme
from clipvil.protocol.report import render, write_report
from clipvil.protocol.results import Report


def protocol(
    name: str | Path | Declaration | Mapping[str, Any],
    *,
    out: str | Path,
    jobs: int = 1,
    retry_failed: bool = False,
    command: str = "",
    quiet: bool = False,
) -> Report:
    """Train and judge every cell of a protocol: a packaged name (`mini`), a YAML file, a `Declaration`, or its values.

    Everything lies under `out`: lists of shots in `subsets/`, shifted splits in `shifts/`, runs in `cells/`, features
    in `features/`, what teachers said in `teachers/`, and `results.json` and `report.html`, rewritten after every cell.
    The same call again skips finished cells and resumes a killed one at its exact step. `jobs` cells are trained at
    once, each in a process of its own (0: as many as cores and memory allow). A cell that fails is written down with
    its error and the rest goes on: look at `failures` of the report.

    Raises:
        RecipeError, UsageError, DataError: the declaration, a recipe or the data is wrong, before anything was trained;
            or another process works in `out`.
    """
    if isinstance(name, Mapping):
        name = Declaration.from_values(name)
    declaration = name if isinstance(name, Declaration) else Declaration.load(name)
    folder = Path(out)
    with alone(folder):
        scheme = make_scheme(declaration, folder)
        plan = make_plan(scheme.suite, folder)
        check_encoders(plan)
        command = command or f"clipvil protocol {declaration.name} --out {folder}"
        matrix = _Protocol(declaration, scheme, plan, command, jobs, retry_failed, quiet)
        matrix.run()
        return matrix.results()


def lay_out(name: str | Path, out: str | Path) -> list[tuple[Place, tuple[int, ...]]]:
    """Make the lists of shots and the shifted splits, and say which cells there are, with their seeds; trains nothing.

    Raises as `protocol` does.
    """
    declaration, folder = Declaration.load(name), Path(out)
    with alone(folder):
        scheme = make_scheme(declaration, folder)
        make_plan(scheme.suite, folder)
    return [(place, declaration.seeds) for place in scheme.places]


def report_only(out: str | Path) -> Report:
    """Write `report.html` again from `results.json`, running nothing. Raises DataError where there are no results."""
    report = Report.load(Path(out) / RESULTS)
    write_report(report, Path(out) / REPORT)
    return report


class _Protocol(Matrix[Report]):
    """A matrix whose tasks are those of a scheme."""

    ledger: ProtocolLedger
    kept, page = Report, staticmethod(render)

    def __init__(self, declaration: Declaration, scheme: Scheme, plan: Plan, command: str, *others: Any) -> None:
        self.declaration, self.scheme = declaration, scheme
        super().__init__(plan, command, *others)

    def open_ledger(self, plan: Plan) -> ProtocolLedger:
        """The account of the protocol."""
        return ProtocolLedger(plan, self.declaration, self.scheme)

    def results(self) -> Report:
        """Everything that is known now."""
        return self.ledger.report()
