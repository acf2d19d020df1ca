"""`clipvil score navigation`: the official navigation metrics on submission files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from clipvil.tasks.navigation_scores import NavigationScores


def register(score: typer.Typer) -> None:
    """Add the command to the table of `clipvil score`."""
    score.command("navigation")(navigation)


def navigation(
    episodes: Path = typer.Option(..., "--episodes", help="R2R or R4R JSON, or an RxR guide file (.jsonl, .jsonl.gz)."),
    graphs: Path = typer.Option(..., "--graphs", help="The folder of the files <scan>_connectivity.json."),
    predictions: Path = typer.Option(
        ..., "--predictions", help="R2R submission (instr_id, trajectory) or RxR's (instruction_id, path)."
    ),
    json: Path | None = typer.Option(None, "--json", help="Also write mean and per_episode to this file."),
    spl: str = typer.Option(
        "graph", "--spl", help="What SPL takes as the shortest length: graph (official), or reference (HAMT)."
    ),
) -> None:
    """PL, NE, OE, SR, OSR, SPL, nDTW, sDTW and CLS with 95 % intervals clustered by path; every step is checked."""
    from typing import get_args

    from clipvil.datasets.any_episodes import read_any
    from clipvil.datasets.connectivity import Graphs
    from clipvil.datasets.trajectories import match, read_walks
    from clipvil.errors import UsageError
    from clipvil.files import atomic_write_json
    from clipvil.metrics.navigation import Shortest
    from clipvil.tasks.navigation_scores import score_routes

    if spl not in get_args(Shortest):
        raise UsageError(f"unknown length '{spl}' for --spl; choose one of {', '.join(get_args(Shortest))}")
    houses = Graphs(graphs)
    asked = read_any(episodes, graphs=houses)
    routes = match(read_walks(predictions), asked, houses, file=predictions)
    scores = score_routes(routes, shortest=cast("Shortest", spl))
    _print(scores)
    if json is not None:
        atomic_write_json(json, {"metric": "navigation", "spl": spl, **scores.to_json()})


def _print(scores: NavigationScores) -> None:
    import math

    from clipvil.metrics.navigation import METRES, METRICS

    typer.echo(f"{'navigation':<12} {'':>2} {'mean':>8}  {'95 % interval':<20} {'n':>8}")
    for name in METRICS:
        value, low, high = scores.means[name]
        unit, by = ("m", 1.0) if name in METRES else ("%", 100.0)
        interval = f"[{by * low:.2f}, {by * high:.2f}]" if high < math.inf else "-"
        typer.echo(f"{name:<12} {unit:>2} {by * value:>8.2f}  {interval:<20} {len(scores.episodes):>8}")
    for language, means in scores.languages.items():
        told = (f"{name} {100 * means[name]:.2f}" for name in ("SR", "SPL", "nDTW", "sDTW"))
        typer.echo(f"{language:<12} {'  '.join(told)}")
