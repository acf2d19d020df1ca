"""`clipvil predict`: ask a run about pictures."""

from __future__ import annotations

from pathlib import Path

import typer


def predict(
    run: Path = typer.Argument(..., help="Folder of a finished run, trained or zero-shot."),
    images: list[Path] = typer.Option(..., "--image", help="A picture file; may be given several times."),
    texts: list[str] = typer.Option(..., "--text", help="The question; may be given several times."),
    top: int = typer.Option(5, "--top", min=1, help="How many answers."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, one line a picture and question."),
) -> None:
    """Ask a run about pictures; prints answers with their confidence, best first.

    Every question is asked about every picture. A picture that cannot be used is said so in one line, the others are
    answered all the same, and the command ends with 1.
    """
    import json

    from clipvil.errors import ImageError
    from clipvil.training.predictor import load

    predictor, bad, several = load(run), 0, len(images) * len(texts) > 1
    for image in images:
        try:
            found = predictor.answer(image, texts, top=top)
        except ImageError as error:
            bad += 1
            if as_json and several:
                typer.echo(json.dumps({"image": str(image), "error": str(error)}, ensure_ascii=False))
            typer.echo(f"clipvil: {error}", err=True)
            continue
        for text, answers in zip(texts, found, strict=True):
            if as_json:
                rows = [{"answer": answer, "confidence": round(share, 6)} for answer, share in answers]
                row = {"image": str(image), "question": text, "answers": rows}
                typer.echo(json.dumps(row, ensure_ascii=False))
                continue
            if several:
                typer.echo(f"{image}: {text}")
            for answer, share in answers:
                typer.echo(f"{share:6.1%}  {answer}")
    if bad:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("predict")(predict)
