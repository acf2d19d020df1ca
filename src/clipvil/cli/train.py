"""`clipvil train`: train what a recipe describes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from clipvil.tasks.base import Scores


def train(
    recipe: str = typer.Argument(..., help="A recipe file, or the name of a packaged one, as mini/vqa."),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[key=value]...", help="Settings to change, as optimiser.lr=0.002 seed=1."
    ),
    out: Path = typer.Option(..., "--out", help="Folder of the run."),
    resume: bool = typer.Option(False, "--resume", help="Go on where the last checkpoint of the folder stands."),
    allow_older: bool = typer.Option(
        False, "--allow-older", help="With --resume: if the newest checkpoint is damaged, take the one before it."
    ),
    allow_recipe_change: bool = typer.Option(
        False, "--allow-recipe-change", help="With --resume: go on although the recipe is not the one it began with."
    ),
    retry_failed: bool = typer.Option(
        False, "--retry-failed", help="Try pictures again that could not be read when their features were extracted."
    ),
    quiet: bool = typer.Option(False, "--quiet", help="No progress."),
) -> None:
    """Train what a recipe describes, choose the best step on val, judge every split, write result.json.

    For many devices or machines: accelerate launch --num_processes N -m clipvil.cli.main train RECIPE --out RUN
    """
    from clipvil.training.recipe import Recipe
    from clipvil.training.run import train as run

    chosen = Recipe.from_file(recipe, overrides or ())
    done = run(
        chosen,
        out,
        resume=resume,
        quiet=quiet,
        allow_older=allow_older,
        allow_recipe_change=allow_recipe_change,
        retry_failed=retry_failed,
    )
    if os.environ.get("RANK", "0") != "0":
        return  # of many processes, the first speaks
    result = done.result
    for split, scores in done.scores.items():
        typer.echo(score_line(split, scores))
    seconds = result["seconds"]
    trained = (
        f"best step {result['best']['step']} of {result['stopped']['step']}, {seconds['training']:.0f} s of training"
        if result["best"]["step"] is not None
        else f"{result['stopped']['reason']}, {seconds['evaluation']:.0f} s of answering"
    )
    typer.echo(f"{trained}, {seconds['total']:.0f} s in all; {out / 'result.json'}")


def score_line(split: str, scores: Scores) -> str:
    """One split's score with its interval, as one line."""
    overall = scores.overall
    return (
        f"{split:<10} {scores.metric} ({scores.mode}) {overall.value:.2f}  "
        f"[{overall.low:.2f}, {overall.high:.2f}]  n={overall.n}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("train")(train)
