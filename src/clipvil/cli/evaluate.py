"""`clipvil evaluate`: judge a finished run on a split."""

from __future__ import annotations

from pathlib import Path

import typer


def evaluate(
    run: Path = typer.Argument(..., help="Folder of a finished run."),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[key=value]...", help="Other data or another store, as data.root=DIR; needs --out."
    ),
    split: str = typer.Option("test", "--split", help="Which split of the run's data."),
    out: Path | None = typer.Option(None, "--out", help="Where predictions and scores go [default: into the run]."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress."),
) -> None:
    """Judge a finished run on a split, with its best weights."""
    from clipvil.cli.train import score_line
    from clipvil.training.run import evaluate as judge

    scores = judge(run, split, overrides=overrides or (), out=out, quiet=quiet)
    folder = out or run
    if scores is None:
        typer.echo(f"{split} has no answers: predictions only, in {folder / f'predictions_{split}.jsonl'}")
        return
    typer.echo(score_line(split, scores))
    for heading, groups in scores.breakdowns.items():
        typer.echo(f"by {heading.replace('_', ' ')}")
        for group, score in groups.items():
            typer.echo(f"  {group:<24} {score.value:6.2f}  [{score.low:.2f}, {score.high:.2f}]  n={score.n}")


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("evaluate")(evaluate)
