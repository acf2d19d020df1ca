"""`clipvil protocol`: tasks x conditions x methods x seeds on one student; a table, results.json and report.html."""

from __future__ import annotations

import typer


def protocol(
    name: str = typer.Argument(..., metavar="NAME|FILE", help="A packaged protocol (mini, mini-small) or a YAML file."),
    out: str = typer.Option(..., "--out", help="Folder for shots, runs, features, results.json and report.html."),
    jobs: int = typer.Option(0, "--jobs", min=0, help="Cells trained at once; 0: as cores and memory allow."),
    retry_failed: bool = typer.Option(
        False, "--retry-failed", help="Try pictures again that could not be read when their features were extracted."
    ),
    only_report: bool = typer.Option(False, "--report-only", help="Write the report again; run nothing."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Make shots and shifted splits, list the cells, train none."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress, only the table."),
) -> None:
    """Judge ways of training where they may differ: with few shots, under shift, and with all data.

    Run it again to go on where it was stopped. Exits with 1 when a cell failed; the others are reported all the same.
    """
    from clipvil.cli.ending import command_line, show
    from clipvil.protocol.run import lay_out, report_only
    from clipvil.protocol.run import protocol as run
    from clipvil.protocol.table import render_table

    if dry_run:
        for place, seeds in lay_out(name, out):
            typer.echo(f"{place.task}\t{place.condition}\t{place.method}\tseeds {', '.join(map(str, seeds))}")
        return
    if only_report:
        report = report_only(out)
    else:
        report = run(name, out=out, jobs=jobs, retry_failed=retry_failed, command=command_line(), quiet=quiet)
    show(report, out, render_table)


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("protocol", no_args_is_help=True)(protocol)
