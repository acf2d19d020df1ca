"""`clipvil predict`: ask a trained run about one picture."""

from __future__ import annotations

from pathlib import Path

import typer


def predict(
    run: Path = typer.Argument(..., help="Folder of a finished run."),
    image: Path = typer.Option(..., "--image", help="A picture file."),
    text: str = typer.Option(..., "--text", help="The question."),
    top: int = typer.Option(5, "--top", min=1, help="How many answers."),
    as_json: bool = typer.Option(False, "--json", help="Print the answers as JSON."),
) -> None:
    """Ask a trained run about one picture; prints answers with their confidence, best first."""
    import json

    from clipvil.training.predictor import load

    answers = load(run).answer(image, text, top=top)
    if as_json:
        rows = [{"answer": answer, "confidence": round(share, 6)} for answer, share in answers]
        typer.echo(json.dumps({"image": str(image), "question": text, "answers": rows}, ensure_ascii=False))
        return
    for answer, share in answers:
        typer.echo(f"{share:6.1%}  {answer}")


def register(app: typer.Typer) -> None:
    """Add the command to the table."""
    app.command("predict")(predict)
