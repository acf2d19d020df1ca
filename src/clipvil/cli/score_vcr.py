"""`clipvil score vcr`: Q->A, QA->R and Q->AR of visual commonsense reasoning, on files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from clipvil.metrics.vcr import VcrScores


def register(score: typer.Typer) -> None:
    """Add the command to `clipvil score`."""
    score.command("vcr")(vcr)


def vcr(
    annotations: Path = typer.Option(..., "--annotations", help="Official VCR file with labels, as val.jsonl."),
    predictions: Path = typer.Option(
        ..., "--predictions", help="The leaderboard's CSV of 20 columns, or predictions_<split>.jsonl of a run."
    ),
    json: Path | None = typer.Option(None, "--json", help="Also write everything, question by question, to this file."),
) -> None:
    """Visual commonsense reasoning: Q->A, QA->R and Q->AR, with 95 % intervals clustered by picture."""
    from clipvil.datasets.vcr_results import read_gold, read_said
    from clipvil.errors import DataError
    from clipvil.files import atomic_write_json
    from clipvil.metrics.vcr import vcr_scores

    gold, said = read_gold(annotations), read_said(predictions)
    try:
        result = vcr_scores(said, gold)
    except DataError as error:
        # What is wrong is wrong with one file or the other; both are named.
        raise DataError(f"{error} (judged against {annotations})", file=predictions) from None
    typer.echo(f"{'VCR accuracy':<32} {'%':>7}  {'95 % interval':<18} {'n':>8}")
    for name, found in result.measured.items():
        interval = f"[{found.low:.2f}, {found.high:.2f}]"
        typer.echo(f"{name:<32} {found.value:>7.2f}  {interval:<18} {found.n:>8}")
    if json is not None:
        atomic_write_json(json, _report(result))


def _report(result: VcrScores) -> dict[str, Any]:
    main = result.measured[result.main]
    return {
        "metric": "vcr_accuracy",
        "mode": result.main,
        "n": main.n,
        "overall": round(main.value, 2),
        "interval": [main.low, main.high],
        **{name: round(found.value, 2) for name, found in result.measured.items()},
        "subtasks": {
            name: {"value": round(found.value, 2), "n": found.n, "interval": [found.low, found.high]}
            for name, found in result.measured.items()
        },
        "per_record": {key: dict(hits) for key, hits in result.per_record.items()},
    }
