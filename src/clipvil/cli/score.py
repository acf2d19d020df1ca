"""`clipvil score`: the official metrics on files, with no model at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from clipvil.cli import score_captions, score_entailment, score_navigation, score_vcr

if TYPE_CHECKING:
    from clipvil.metrics.gqa import GqaScores
    from clipvil.tasks.base import Score, Scores


def register(app: typer.Typer) -> None:
    """Add `score` with one command a metric."""
    score = typer.Typer(help="Score a file of predictions with a task's official metric.", no_args_is_help=True)
    score.command("vqa")(vqa)
    score.command("gqa")(gqa)
    score_captions.register(score)
    score_entailment.register(score)
    score_navigation.register(score)
    score_vcr.register(score)
    app.add_typer(score, name="score")


def vqa(
    questions: Path = typer.Option(..., "--questions", help="Official questions JSON."),
    annotations: Path = typer.Option(..., "--annotations", help="Official annotations JSON."),
    predictions: Path = typer.Option(..., "--predictions", help="Result JSON, or predictions_<split>.jsonl of a run."),
    mode: str = typer.Option("official", "--mode", help="official, lenient, or evalai (MMF's normaliser)."),
    json: Path | None = typer.Option(None, "--json", help="Also write everything, question by question, to this file."),
) -> None:
    """VQA accuracy: overall, by answer type and by question type, with 95 % intervals clustered by picture."""
    from typing import get_args

    from clipvil.datasets.vqa_results import read_results
    from clipvil.datasets.vqa_v2 import read_cached
    from clipvil.errors import UsageError
    from clipvil.files import atomic_write_json
    from clipvil.metrics.vqa import Mode
    from clipvil.tasks.vqa_scores import score_answers

    if mode not in get_args(Mode):
        raise UsageError(f"unknown mode '{mode}'; choose one of {', '.join(get_args(Mode))}")
    records = read_cached(questions, annotations)
    said = read_results(predictions)
    _complete(said, set(records.column("question_id")), predictions)
    scores = score_answers(said, records, cast("Mode", mode))
    _print(scores, "VQA accuracy")
    if json is not None:
        atomic_write_json(json, _report(scores))


def gqa(
    questions: Path = typer.Option(..., "--questions", help="Official questions JSON, or the folder of its shards."),
    predictions: Path = typer.Option(..., "--predictions", help="Result JSON, or predictions_<split>.jsonl of a run."),
    choices: Path | None = typer.Option(None, "--choices", help="Choices JSON, for validity and plausibility."),
    attentions: Path | None = typer.Option(None, "--attentions", help="Attention maps JSON, for grounding."),
    scenes: Path | None = typer.Option(None, "--scenes", help="Scene graphs JSON, for grounding."),
    boxes: bool = typer.Option(False, "--boxes", help="Attention is over boxes [x0, y0, x1, y1, weight], not a map."),
    consistency: bool | None = typer.Option(
        None,
        "--consistency/--no-consistency",
        help="Insist on it, or leave it out [default: where it can be computed].",
    ),
    mode: str = typer.Option("official", "--mode", help="official or lenient."),
    json: Path | None = typer.Option(None, "--json", help="Also write everything, question by question, to this file."),
) -> None:
    """GQA's metrics: accuracy by kind of question, consistency, validity, plausibility, grounding, distribution."""
    from typing import get_args

    from clipvil.datasets.gqa import read_full
    from clipvil.datasets.gqa_extras import read_choices, read_grounding
    from clipvil.datasets.vqa_results import read_results
    from clipvil.errors import UsageError
    from clipvil.files import atomic_write_json
    from clipvil.metrics.gqa import GqaMode, gqa_scores
    from clipvil.tasks.gqa_scores import with_intervals

    if mode not in get_args(GqaMode):
        raise UsageError(f"unknown mode '{mode}'; choose one of {', '.join(get_args(GqaMode))}")
    if (attentions is None) != (scenes is None):
        raise UsageError("grounding needs both --attentions and --scenes")
    chosen, asked = cast("GqaMode", mode), read_full(questions)
    said = read_results(predictions)
    grounding = None
    if attentions is not None and scenes is not None:
        grounding = read_grounding(attentions, scenes, asked, chosen, boxes=boxes)
    table = read_choices(choices) if choices is not None else None
    result = gqa_scores(said, asked, chosen, choices=table, grounding=grounding, consistency=consistency)
    scores = with_intervals(result, asked)
    _print(scores, "GQA accuracy")
    typer.echo("also")
    for name, value in result.scores.items():
        if name != "accuracy":
            typer.echo(f"  {name:<30} {value:>7.2f}{'  (lower is better)' if name == 'distribution' else ''}")
    for name, reason in result.not_computed.items():
        typer.echo(f"  {name:<30} not computed: {reason}")
    unused = len(said.keys() - asked.keys())
    if unused:
        typer.echo(f"{unused} predictions belong to no question of this file and were passed over", err=True)
    if json is not None:
        atomic_write_json(json, _gqa_report(scores, result, unused))


def _gqa_report(scores: Scores, result: GqaScores, unused: int) -> dict[str, Any]:
    """What `--json` writes: values as the official script prints them (two decimals), intervals, and every question."""
    report = _report(scores)
    rounded = {name: round(value, 2) for name, value in result.scores.items()}
    types = {f"per_{h}": {g: round(v, 2) for g, v in result.breakdown(h).items()} for h in result.groups}
    head = {name: report[name] for name in ("metric", "mode", "n")}
    return {
        **head,
        "overall": rounded["accuracy"],
        "interval": report["interval"],
        **rounded,
        "precise": dict(result.scores),
        "not_computed": dict(result.not_computed),
        "predictions_passed_over": unused,
        **types,
        "breakdowns": report["breakdowns"],
        "per_question": report["per_question"],
    }


def _complete(said: dict[str, str], asked: set[str], path: Path) -> None:
    from clipvil.errors import DataError

    missing, extra = sorted(asked - said.keys()), sorted(said.keys() - asked)
    if missing:
        raise DataError(f"{len(missing)} questions are not answered: {_some(missing)}", file=path)
    if extra:
        raise DataError(f"{len(extra)} answers belong to no question: {_some(extra)}", file=path)


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def _print(scores: Scores, title: str) -> None:
    from clipvil.metrics.vqa import round_half_away

    def line(name: str, score: Score) -> str:
        interval = f"[{score.low:.2f}, {score.high:.2f}]"
        return f"{name:<32} {round_half_away(score.value):>7.2f}  {interval:<18} {score.n:>8}"

    typer.echo(f"{f'{title} ({scores.mode})':<32} {'%':>7}  {'95 % interval':<18} {'n':>8}")
    typer.echo(line("overall", scores.overall))
    for heading, groups in scores.breakdowns.items():
        typer.echo(f"by {heading.replace('_', ' ')}")
        for group, score in groups.items():
            typer.echo(line(f"  {group}", score))


def _report(scores: Scores) -> dict[str, Any]:
    """What `--json` writes: values as the official script prints them (two decimals), intervals, and every question."""
    from dataclasses import asdict

    from clipvil.metrics.vqa import round_half_away

    per_type = {h: {g: round_half_away(s.value) for g, s in v.items()} for h, v in scores.breakdowns.items()}
    return {
        "metric": scores.metric,
        "mode": scores.mode,
        "n": scores.overall.n,
        "overall": round_half_away(scores.overall.value),
        "interval": [scores.overall.low, scores.overall.high],
        "per_answer_type": per_type.get("answer_type", {}),
        "per_question_type": per_type.get("question_type", {}),
        "breakdowns": {h: {g: asdict(s) for g, s in v.items()} for h, v in scores.breakdowns.items()},
        "per_question": {key: round_half_away(value) for key, value in scores.per_record.items()},
    }
