"""`clipvil features`: look into a feature store."""

from __future__ import annotations

from pathlib import Path

import typer


def info(
    store: Path = typer.Argument(..., help="The folder of the store."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """What a store holds: encoder, policy, counts, failures, cost; exit code 1 if a data file is gone."""
    import json

    from clipvil.features.info import describe

    about = describe(store)
    typer.echo(json.dumps(about.to_json(), indent=1) if as_json else "\n".join(about.lines()))
    if about.missing:
        raise typer.Exit(1)


def verify(
    store: Path = typer.Argument(..., help="The folder of the store."),
    as_json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Read the whole store and check every record; exit code 1 if it is damaged or incomplete."""
    import json

    from clipvil.features.verify import verify as check

    report = check(store)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
    else:
        for problem in report.problems:
            typer.echo(f"PROBLEM  {problem}")
        held = f"{report.pictures} pictures, {report.failed} failed, {report.shards} shards, {report.bytes} bytes"
        typer.echo(f"{store}: {'sound' if report.ok else f'{len(report.problems)} problem(s)'}; {held}")
    if not report.ok:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the commands to the table."""
    features = typer.Typer(help="Look into a feature store.", no_args_is_help=True, rich_markup_mode=None)
    features.command("info")(info)
    features.command("verify")(verify)
    app.add_typer(features, name="features")
