"""`clipvil doctor`: what is installed, what this machine can do, and the fix for the known traps."""

from __future__ import annotations

import typer


def doctor(as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON.")) -> None:
    """Tell what is installed, what this machine can do, and how to mend what is broken."""
    import json

    from clipvil.environment import diagnose

    findings = diagnose()
    if as_json:
        typer.echo(json.dumps(findings.to_json(), indent=1))
    else:
        for line in findings.lines():
            typer.echo(line)
    if findings.problems:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("doctor")(doctor)
