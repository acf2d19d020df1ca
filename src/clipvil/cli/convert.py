"""`clipvil convert`: bring a checkpoint that others released into our own form."""

from __future__ import annotations

from pathlib import Path

import typer


def convert(
    file: Path = typer.Argument(..., help="The checkpoint: .safetensors, .pth, .pt or .ckpt."),
    overrides: list[str] | None = typer.Argument(
        None, metavar="[key=value]...", help="Settings of the recipe to change, as model.heads=4 data.root=DIR."
    ),
    name: str = typer.Option(
        ..., "--from", help="Whose checkpoint it is: clip-vil-p, clip-vil-captioner, envdrop, envdrop-speaker, mmf-…"
    ),
    recipe: str = typer.Option(
        ..., "--recipe", help="The recipe it was trained by: encoder, resize and data, as paper/vqa_v2/mcan-rn50x4."
    ),
    words: Path | None = typer.Option(
        None, "--words", help="The vocabulary: one word a line (vocabulary_100k.txt, vocab.txt); a captioner's JSON."
    ),
    answers: Path | None = typer.Option(
        None, "--answers", help="The answers (answers_vqa.txt, trainval_label2ans.json, all_ans.json)."
    ),
    out: Path = typer.Option(..., "--out", help="Folder to write, used like that of a run."),
) -> None:
    """Convert a released checkpoint; nothing is unpickled, and no key is passed over in silence.

    Writes weights, recipe and conversion.json (every key used, dropped or missing). With its vocabularies (--words, for
    VQA also --answers) the folder is used like a run: clipvil predict, clipvil caption, clipvil evaluate, clipvil.load.
    """
    from clipvil.convert.folder import REPORT
    from clipvil.convert.folder import convert as run
    from clipvil.convert.registry import source
    from clipvil.training.recipe import Recipe

    found = run(file, name, out, recipe=Recipe.from_file(recipe, overrides or ()), words=words, answers=answers)
    typer.echo(f"{found.counts()}; {out / REPORT}")
    for reason in dict.fromkeys(found.dropped.values()):
        typer.echo(f"  {sum(why == reason for why in found.dropped.values())} dropped: {reason}")
    assumed = ", ".join(f"{key} {value}" for key, value in found.assumed.items())
    typer.echo(f"  not told by the file, taken from preset and recipe: {assumed}")
    if words is None:
        typer.echo(f"  weights only: convert again with {source(name).VOCABULARIES} to use it")


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("convert")(convert)
