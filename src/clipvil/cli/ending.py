"""How commands end that run a matrix of cells: the table, where the report lies, and whether cells failed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from clipvil.compare.results import Stored

R = TypeVar("R", bound="Stored")


def command_line() -> str:
    """The command line as it was typed, for the report."""
    return shlex.join(["clipvil", *sys.argv[1:]])


def show(results: R, out: str, render_table: Callable[..., str]) -> None:
    """Print the table, as wide as the terminal, and the place of the report; exit with 1 where cells failed."""
    from clipvil.compare.matrix import REPORT
    from clipvil.compare.table import WIDTH

    on_terminal = sys.stdout.isatty()
    width = max(shutil.get_terminal_size((WIDTH, 24)).columns, 60) if on_terminal else WIDTH
    typer.echo(render_table(results, width=width, colour=on_terminal))
    typer.echo(f"\nreport: {Path(out) / REPORT}")
    if results.failures:
        typer.echo(f"clipvil: {len(results.failures)} of {len(results.cells)} cells failed", err=True)
        raise typer.Exit(1)
