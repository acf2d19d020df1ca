"""`clipvil vcr`: what is done with files of visual commonsense reasoning beside training on them."""

from __future__ import annotations

from pathlib import Path

import typer


def shortcuts(
    file: Path = typer.Argument(..., help="A VCR file with labels, as val.jsonl."),
    out: Path = typer.Option(
        ..., "--out", help="Folder that receives <stem>_rule_singular.jsonl and _rule_plural.jsonl."
    ),
) -> None:
    """Make the shortcut-shifted sets of a VCR file, in which choosing by the question's tags is wrong.

    Also prints what the tags give away in the file itself and in each set.
    """
    from clipvil.datasets.vcr_shortcuts import overlap, write_shortcuts

    found = write_shortcuts(file, out)
    for name, path in ((str(file), file), *((rule, one.path) for rule, one in found.items())):
        told = overlap(path)
        typer.echo(
            f"{name}: {told.n} questions; of {told.largest:.1f} % the right answer shares the most tags with the "
            f"question, and choosing by that alone scores {told.score:.1f} %"
        )
    for rule, one in found.items():
        typer.echo(
            f"{one.path}: {one.kept} of {one.of} questions, {one.answers} answers and {one.rationales} rationales "
            f"rewritten by {rule}"
        )


def register(app: typer.Typer) -> None:
    """Add the group to the table."""
    group = typer.Typer(help="Files of visual commonsense reasoning (VCR).", no_args_is_help=True)
    # A group of one command would swallow its name.
    group.callback()(lambda: None)
    group.command("shortcuts")(shortcuts)
    app.add_typer(group, name="vcr")
