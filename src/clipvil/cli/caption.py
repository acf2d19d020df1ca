"""`clipvil caption`: describe any pictures with a trained captioner."""

from __future__ import annotations

from pathlib import Path

import typer


def caption(
    images: str = typer.Argument(
        ..., help="A picture, a folder, a CSV/JSONL list, COCO or Karpathy JSON, tar shards ('a-*.tar') or a zip."
    ),
    run: Path = typer.Argument(..., help="Folder of a finished run of the task captioning."),
    out: Path = typer.Option(Path("captions"), "--out", help="The folder to write; unfinished work is gone on with."),
    beams: int | None = typer.Option(
        None, "--beams", min=1, help="Beams of the search (1: greedy) [default: the run's]."
    ),
    length_penalty: str | None = typer.Option(
        None, "--length-penalty", help="avg, or wu_0.9, or '' for none [default: the run's]."
    ),
    max_length: int | None = typer.Option(None, "--max-length", min=1, help="Most words [default: the run's]."),
    sheet: int = typer.Option(500, "--sheet", min=0, help="Pictures in contact_sheet.html; 0 writes none."),
    show: int = typer.Option(10, "--show", min=0, help="How many captions to print."),
    kind: str | None = typer.Option(
        None, "--kind", help="folder, csv, jsonl, coco, karpathy, tar or zip, where it cannot be told."
    ),
    folder: Path | None = typer.Option(None, "--images", help="Where the relative paths of a list or JSON start."),
    batch_size: int = typer.Option(32, "--batch-size", min=1, help="Pictures a batch."),
    workers: int | None = typer.Option(None, "--workers", min=0, help="Decoding threads (one a core; 0: none)."),
    max_bad: str | None = typer.Option(
        None, "--max-bad", help="Exit with 3 if more fail: a count (10), a fraction (0.01) or 1%."
    ),
    quiet: bool = typer.Option(False, "--quiet", help="No progress."),
) -> None:
    """Caption pictures with a finished run: captions.jsonl, failures.jsonl and a contact sheet to look at.

    A picture that cannot be used is counted and named in failures.jsonl, the others are captioned all the same. Stopped
    and started again, it goes on.
    """
    import json

    from clipvil.compare.contact_sheet import write_contact_sheet
    from clipvil.training.caption_folder import caption_pictures

    chosen = {"beams": beams, "length_penalty": length_penalty, "decode_max_length": max_length}
    report = caption_pictures(
        images,
        run,
        out,
        overrides=[f"task_settings.{key}={json.dumps(value)}" for key, value in chosen.items() if value is not None],
        kind=kind,
        images=folder,
        workers=workers,
        batch_size=batch_size,
        max_bad=max_bad,
        sheet=write_contact_sheet if sheet else None,
        sheet_pictures=sheet,
        quiet=quiet,
    )
    _show(out / "captions.jsonl", show)
    typer.echo(report.line(), err=True)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _show(path: Path, count: int) -> None:
    import itertools
    import json

    with path.open(encoding="utf-8") as stream:
        for line in itertools.islice(stream, count):
            value = json.loads(line)
            typer.echo(f"{value['image_id']}  {value['caption']}  ({value['confidence']:.2f})")
        if more := sum(1 for _ in stream):
            typer.echo(f"and {more} more in {path}")


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("caption")(caption)
