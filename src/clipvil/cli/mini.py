"""`clipvil mini DIR`: write the miniature world in the official file formats."""

from __future__ import annotations

from pathlib import Path

import typer


def parse_sizes(text: str) -> dict[str, int]:
    """Read "train=4000,val=500" into sizes. Raises `UsageError` naming the part that does not fit."""
    from clipvil.errors import UsageError

    sizes: dict[str, int] = {}
    for part in text.split(","):
        split, _, number = part.partition("=")
        if not number.strip().isascii() or not number.strip().isdigit():
            raise UsageError(f"--sizes: {part!r} should read SPLIT=NUMBER, as in train=4000,val=500")
        if split.strip() in sizes:
            raise UsageError(f"--sizes: {split.strip()!r} is given twice")
        sizes[split.strip()] = int(number)
    return sizes


def mini(
    directory: Path = typer.Argument(..., metavar="DIR", help="Folder that receives the corpus."),
    seed: int = typer.Option(0, help="Another seed gives another world."),
    sizes: str = typer.Option("", help="Pictures a split, as in train=4000,val=500. Default: all four splits."),
    force: bool = typer.Option(False, "--force", help="Replace another corpus in this folder."),
) -> None:
    """Write the miniature world: pictures, captions, questions of VQA v2, GQA and VCR, pairs of SNLI-VE and LXMERT."""
    from clipvil.mini.companions import write_companions
    from clipvil.mini.corpora import write_corpus

    corpus = write_corpus(directory, sizes=parse_sizes(sizes) if sizes else None, seed=seed, force=force)
    write_companions(corpus)
    counts = ", ".join(f"{split} {count}" for split, count in corpus.sizes.items())
    typer.echo(f"{corpus.root}: {counts} pictures")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("mini")(mini)
