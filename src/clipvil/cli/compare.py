"""`clipvil compare`: encoders x tasks x seeds in one command; a table in the terminal, results.json and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

# Options that take several values after one another, as in `--encoders A B`.
_LISTS = ("--encoders", "--tasks", "--set")


def spread_lists(arguments: list[str], lists: Sequence[str] = _LISTS) -> list[str]:
    """Write `--encoders A B` as `--encoders A --encoders B`, which is what the parser underneath understands.

    The values of a list end at the next word that starts with a hyphen, or at `--`. So a suite's name stands before
    the options, not behind a list.
    """
    out: list[str] = []
    current = ""
    for number, word in enumerate(arguments):
        if word == "--":
            return out + arguments[number:]
        if word.startswith("-"):
            current = word if word in lists else ""
            out.append(word)
        elif current and out[-1] != current:
            out += [current, word]
        else:
            out.append(word)
    return out


class _ListCommand(TyperCommand):
    """A command whose list options take values separated by spaces as well as repeated options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread_lists(args))


def compare(
    suite: str | None = typer.Argument(
        None, help="A packaged suite (mini, easy_vqa) or a YAML file. Must stand before list options."
    ),
    encoders: list[str] | None = typer.Option(
        None, "--encoders", metavar="NAME ...", help="Encoders as in `clipvil encoders`; the first is the reference."
    ),
    tasks: list[str] | None = typer.Option(
        None, "--tasks", metavar="TASK ...", help="Tasks by name or recipe; default vqa."
    ),
    data: str | None = typer.Option(
        None, "--data", help="YAML with the data section (paths count from its folder), or a table of questions."
    ),
    seeds: int | None = typer.Option(None, "--seeds", min=1, help="How many seeds, counted from 0."),
    recipe: str | None = typer.Option(None, "--recipe", help="One recipe instead of --tasks."),
    overrides: list[str] | None = typer.Option(
        None, "--set", metavar="KEY=VALUE ...", help="Change every recipe, as in schedule.steps=500."
    ),
    question_only: bool | None = typer.Option(
        None, "--question-only/--no-question-only", help="Add the row that sees no picture (on by default)."
    ),
    jobs: int = typer.Option(0, "--jobs", min=0, help="Cells trained at once; 0: as cores and memory allow."),
    out: str = typer.Option(..., "--out", help="Folder for runs, features, results.json and report.html."),
    retry_failed: bool = typer.Option(
        False, "--retry-failed", help="Try pictures again that could not be read when their features were extracted."
    ),
    only_report: bool = typer.Option(False, "--report-only", help="Write the report again; run nothing."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress, only the table."),
) -> None:
    """Compare visual encoders on a task, with intervals, costs and one report.

    Run it again to go on where it was stopped. Exits with 1 when a cell failed; the others are reported all the same.
    """
    from clipvil.cli.ending import command_line, show
    from clipvil.compare.matrix import compare as run
    from clipvil.compare.matrix import report_only
    from clipvil.compare.table import render_table

    if only_report:
        results = report_only(out)
    else:
        results = run(
            suite, out=out, encoders=encoders or None, tasks=tasks or None, data=data, seeds=seeds, recipe=recipe,
            overrides=overrides or (), question_only=question_only, command=command_line(), jobs=jobs,
            retry_failed=retry_failed, quiet=quiet,
        )  # fmt: skip
    show(results, out, render_table)


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("compare", cls=_ListCommand, no_args_is_help=True)(compare)
