"""`clipvil score entailment`: accuracy and scores by class of visual entailment, on files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from clipvil.metrics.entailment import EntailmentScores, Measured


def register(score: typer.Typer) -> None:
    """Add the command to `clipvil score`."""
    score.command("entailment")(entailment)


def entailment(
    annotations: Path = typer.Option(..., "--annotations", help="Official SNLI-VE file (or e-SNLI-VE's table)."),
    predictions: Path = typer.Option(
        ..., "--predictions", help="Rows of pairID and gold_label, or predictions_<split>.jsonl of a run."
    ),
    json: Path | None = typer.Option(None, "--json", help="Also write everything, pair by pair, to this file."),
) -> None:
    """Visual entailment: accuracy, precision, recall and F1 by class, with 95 % intervals clustered by picture."""
    from clipvil.datasets.entailment_results import read_labels
    from clipvil.datasets.snli_ve import agreed, read_pairs
    from clipvil.errors import DataError
    from clipvil.files import atomic_write_json
    from clipvil.metrics.entailment import entailment_scores

    everything = read_pairs(annotations)
    pairs, dropped = agreed(everything)
    said = read_labels(predictions)
    unlabelled = {} if not dropped else {pair.pair_id: pair for pair in everything if not pair.label}
    said = {key: label for key, label in said.items() if key not in unlabelled}
    try:
        result = entailment_scores(said, pairs)
    except DataError as error:
        # What is wrong is wrong with one file or the other; both are named.
        raise DataError(f"{error} (judged against {annotations})", file=predictions) from None
    _print(result)
    if dropped:
        typer.echo(f"{dropped} pairs without a gold label ('-') are not scored", err=True)
    if json is not None:
        atomic_write_json(json, _report(result, dropped))


def _print(result: EntailmentScores) -> None:
    def line(name: str, found: Measured) -> str:
        if not found.n:
            return f"{name:<32} {'none':>7}  {'':<18} {0:>8}"
        return f"{name:<32} {found.value:>7.2f}  {f'[{found.low:.2f}, {found.high:.2f}]':<18} {found.n:>8}"

    typer.echo(f"{'visual entailment':<32} {'%':>7}  {'95 % interval':<18} {'n':>8}")
    typer.echo(line("accuracy", result.accuracy))
    typer.echo(f"{'macro F1':<32} {result.macro_f1:>7.2f}")
    for name, scores in result.classes.items():
        typer.echo(name)
        for kind in ("precision", "recall", "f1"):
            typer.echo(line(f"  {kind}", getattr(scores, kind)))
    typer.echo(f"{'gold label / predicted':<24}" + "".join(f"{name:>14}" for name in result.confusion))
    for name, counts in result.confusion.items():
        typer.echo(f"  {name:<22}" + "".join(f"{count:>14}" for count in counts.values()))


def _report(result: EntailmentScores, dropped: int) -> dict[str, Any]:
    def plain(found: Measured) -> dict[str, Any]:
        if not found.n:
            return {"value": None, "n": 0, "interval": None}
        return {"value": round(found.value, 2), "n": found.n, "interval": [found.low, found.high]}

    return {
        "metric": "entailment_accuracy",
        "mode": "accuracy",
        "n": result.accuracy.n,
        "overall": round(result.accuracy.value, 2),
        "interval": [result.accuracy.low, result.accuracy.high],
        "macro_f1": round(result.macro_f1, 2),
        "classes": {
            name: {kind: plain(getattr(scores, kind)) for kind in ("precision", "recall", "f1")}
            for name, scores in result.classes.items()
        },
        "confusion": {gold: dict(said) for gold, said in result.confusion.items()},
        "without_gold_label": dropped,
        "per_pair": dict(result.per_pair),
    }
