"""`clipvil submit`: write or check the file that an evaluation server takes."""

from __future__ import annotations

from pathlib import Path

import typer


def submit(
    run: Path | None = typer.Argument(None, help="Folder of a finished run (not with --check)."),
    server: str = typer.Option(..., "--server", help="Which server: vqa2, gqa, coco, vcr, r2r or rxr."),
    split: str = typer.Option("test", "--split", help="The split whose predictions are sent."),
    out: Path | None = typer.Option(
        None, "--out", help="The file to write [default: submission_<server>_<split> in the run]."
    ),
    check: Path | None = typer.Option(None, "--check", help="Check this file instead; needs --questions."),
    questions: Path | None = typer.Option(
        None, "--questions", help="With --check: the questions file (coco: the list of pictures)."
    ),
) -> None:
    """Write a run's predictions as the file that an evaluation server takes, and check it. Sends nothing.

    With --check FILE --questions Q: check a file that is there already, of whatever origin.
    """
    from clipvil.errors import UsageError
    from clipvil.training.submission import SERVERS, check_submission, write_submission

    if (run is None) == (check is None):
        raise UsageError("give either the folder of a run, or --check with a file")
    if check is not None:
        if questions is None:
            raise UsageError("--check needs --questions: a file is only complete for the questions it answers")
        count = check_submission(check, server, questions)
        noun = SERVERS[server].noun if server in SERVERS else "question"
        typer.echo(f"{check}: {count} answers, one to each {noun}; {server} takes it")
        return
    assert run is not None
    path, count = write_submission(run, server, split, out)
    typer.echo(f"{count} answers in {path}")


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("submit")(submit)
