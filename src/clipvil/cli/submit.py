"""`clipvil submit`: write the file that an evaluation server takes."""

from __future__ import annotations

from pathlib import Path

import typer


def submit(
    run: Path = typer.Argument(..., help="Folder of a finished run."),
    server: str = typer.Option(..., "--server", help="Which server: vqa2."),
    split: str = typer.Option("test", "--split", help="The split whose predictions are sent."),
    out: Path | None = typer.Option(
        None, "--out", help="The file to write [default: submission_<server>_<split>.json in the run]."
    ),
) -> None:
    """Write a run's predictions as the file that an evaluation server takes, and check it. Sends nothing."""
    from clipvil.training.submission import write_submission

    path, count = write_submission(run, server, split, out)
    typer.echo(f"{count} answers in {path}")


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("submit")(submit)
