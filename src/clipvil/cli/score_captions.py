"""`clipvil score captions`: the COCO caption metrics on files, with no model and, but for METEOR and SPICE, no Java."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from clipvil.datasets.caption_files import References
    from clipvil.metrics.captions import CaptionScore


_CLIP = ("CLIPScore", "RefCLIPScore")


class _Command(TyperCommand):
    """Takes `--metrics A B` as well as `--metrics A --metrics B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from clipvil.cli.compare import spread_lists

        return super().parse_args(ctx, spread_lists(args, ("--metrics",)))


def register(score: typer.Typer) -> None:
    """Add the command to the table of `clipvil score`."""
    score.command("captions", cls=_Command)(captions)


def captions(
    references: Path = typer.Option(
        ..., "--references", help="COCO or Karpathy JSON, {id: [captions]}, CSV, JSONL or a Flickr token file."
    ),
    predictions: Path = typer.Option(
        ..., "--predictions", help="COCO result JSON, {id: caption}, CSV, JSONL, or predictions_<split>.jsonl of a run."
    ),
    metrics: list[str] | None = typer.Option(
        None,
        "--metrics",
        metavar="NAME ...",
        help="BLEU-1 to BLEU-4 (or BLEU), ROUGE-L, CIDEr-D, CIDEr [these by default], METEOR, SPICE, all; "
        "CLIPScore and RefCLIPScore with --store.",
    ),
    json: Path | None = typer.Option(None, "--json", help="Also write everything, picture by picture, to this file."),
    missing: str = typer.Option(
        "error", "--missing", help="A picture without a caption: error, skip it, or score it as empty."
    ),
    split: str | None = typer.Option(None, "--split", help="Which split of a Karpathy file [default: test]."),
    tokenised: bool = typer.Option(False, "--tokenised", help="Both files hold tokens already, separated by blanks."),
    store: Path | None = typer.Option(
        None, "--store", help="Features of the pictures, for CLIPScore and RefCLIPScore."
    ),
    mode: str = typer.Option("official", "--mode", help="Tokenizer: official (as COCO's, a batch) or alone."),
    seed: int = typer.Option(0, "--seed", help="Of the bootstrap that makes the intervals."),
) -> None:
    """BLEU, ROUGE-L, CIDEr, METEOR and SPICE with 95 % intervals over pictures; domains apart where there are any."""
    from typing import get_args

    from clipvil.datasets.caption_files import read_references, read_said
    from clipvil.errors import UsageError
    from clipvil.files import atomic_write_json
    from clipvil.text.ptb import Mode

    if mode not in get_args(Mode):
        raise UsageError(f"unknown mode '{mode}'; choose one of {', '.join(get_args(Mode))}")
    wanted = _metrics(metrics, store)
    given, said = read_references(references, split=split), read_said(predictions)
    notes = _match(said, given, predictions, missing)
    notes += _oddities(said, given)
    for note in notes:
        typer.echo(f"note: {note}", err=True)

    tokens: dict[str, Any] = {"mode": cast("Mode", mode), "tokenised": tokenised, "seed": seed}
    everything = _score(list(given.captions), said, given, wanted, store, tokens)
    _print("all", everything)
    domains: dict[str, dict[str, CaptionScore]] = {}
    for domain in sorted({given.domains[i] for i in given.captions if i in given.domains}):
        ids = [i for i in given.captions if given.domains.get(i) == domain]
        domains[domain] = _score(ids, said, given, wanted, store, tokens)
        _print(domain, domains[domain])
    if json is not None:
        atomic_write_json(json, _report(everything, domains, notes, mode if not tokenised else "none"))


def _score(
    ids: Sequence[str],
    said: Mapping[str, str],
    given: References,
    wanted: Sequence[str],
    store: Path | None,
    tokens: Mapping[str, Any],
) -> dict[str, CaptionScore]:
    """The wanted metrics, in their order, over these pictures."""
    from clipvil.metrics.captions import caption_scores

    captions, references = {i: said[i] for i in ids}, {i: given.captions[i] for i in ids}
    plain = [metric for metric in wanted if metric not in _CLIP]
    found = caption_scores(captions, references, plain, **tokens) if plain else {}
    if len(plain) < len(wanted):
        # Only here, since these load torch and an encoder.
        from clipvil.features.store import Store
        from clipvil.tasks.clip_scores import clip_scores, text_side

        assert store is not None
        features = Store.open(store)
        typer.echo(f"CLIPScore with {features.spec.name}", err=True)
        compared = references if "RefCLIPScore" in wanted else None
        found |= clip_scores(captions, features, text_side(features.spec), compared, seed=tokens["seed"])
    return {metric: found[metric] for metric in wanted}


def _metrics(asked: Sequence[str] | None, store: Path | None) -> list[str]:
    """Names as they are written in the results; any case, commas and the groups BLEU and all are understood."""
    from clipvil.errors import UsageError
    from clipvil.metrics.captions.scores import BLEU, METRICS, NATIVE

    names = [name for part in asked or [] for name in part.split(",") if name]
    if not names:
        return list(NATIVE)
    known = {metric.lower(): (metric,) for metric in (*METRICS, *_CLIP)} | {"bleu": BLEU, "all": METRICS}
    out: dict[str, None] = {}
    for name in names:
        if name.lower() not in known:
            raise UsageError(f"unknown metric '{name}'; known are {', '.join((*METRICS, *_CLIP))}, BLEU and all")
        out |= dict.fromkeys(known[name.lower()])
    clip = next((metric for metric in out if metric in _CLIP), None)
    if clip is not None and store is None:
        raise UsageError(f"{clip} compares captions with pictures: name their features with --store")
    return list(out)


def _match(said: dict[str, str], given: References, path: Path, missing: str) -> list[str]:
    """Make both sides hold the same pictures, as far as `missing` allows. Raises DataError."""
    from clipvil.errors import DataError, UsageError

    if missing not in ("error", "skip", "empty"):
        raise UsageError(f"--missing must be error, skip or empty, not '{missing}'")
    extra = [i for i in said if i not in given.captions]
    if extra:
        raise DataError(f"{len(extra)} captions are about pictures without references: {_some(extra)}", file=path)
    absent = [i for i in given.captions if i not in said]
    if not absent:
        return []
    if missing == "error":
        raise DataError(
            f"{len(absent)} of {len(given.captions)} pictures have no caption: {_some(absent)}",
            file=path,
            fix="add them, or choose --missing skip or --missing empty",
        )
    if missing == "skip":
        for key in absent:
            del given.captions[key]
        return [f"{len(absent)} pictures have no caption and are left out: {_some(absent)}"]
    said |= dict.fromkeys(absent, "")
    return [f"{len(absent)} pictures have no caption and count as empty: {_some(absent)}"]


def _oddities(said: dict[str, str], given: References) -> list[str]:
    """Name captions that are odd, and make line breaks blanks, so that no other caption is touched by them."""
    from clipvil.text.ptb import SEPARATORS

    notes = []
    broken = [key for key, text in said.items() if SEPARATORS.search(text)]
    said |= {key: SEPARATORS.sub(" ", said[key]) for key in broken}
    if broken:
        notes.append(f"{len(broken)} captions hold a line break, which counts as a blank: {_some(broken)}")
    empty = [key for key, text in said.items() if not text.strip()]
    if empty:
        notes.append(f"{len(empty)} captions are empty and score 0: {_some(empty)}")
    torn = [key for key, texts in given.captions.items() if any(map(SEPARATORS.search, texts))]
    for key in torn:
        given.captions[key] = [SEPARATORS.sub(" ", text) for text in given.captions[key]]
    if torn:
        notes.append(f"{len(torn)} pictures have a reference with a line break, which counts as a blank: {_some(torn)}")
    blank = [key for key, texts in given.captions.items() if not all(text.strip() for text in texts)]
    if blank:
        notes.append(f"{len(blank)} pictures have an empty reference: {_some(blank)}")
    return notes


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def _print(name: str, scores: Mapping[str, CaptionScore]) -> None:
    n = next(iter(scores.values())).n
    heading = "captions" if name == "all" else name
    typer.echo(f"{f'{heading} ({n} pictures)':<32} {'x 100':>7}  {'95 % interval':<18}")
    for metric, score in scores.items():
        interval = f"[{100 * score.low:.2f}, {100 * score.high:.2f}]"
        typer.echo(f"{metric:<32} {100 * score.value:>7.2f}  {interval:<18}")


def _report(
    everything: Mapping[str, CaptionScore],
    domains: Mapping[str, Mapping[str, CaptionScore]],
    notes: Sequence[str],
    tokenizer: str,
) -> dict[str, Any]:
    """What `--json` writes: values on the official scale (0 to 1, CIDEr 0 to 10), NaN as null."""

    def group(scores: Mapping[str, CaptionScore]) -> dict[str, Any]:
        ids = next(iter(scores.values())).per_image
        return {
            "n": len(ids),
            "corpus": {metric: score.value for metric, score in scores.items()},
            "intervals": {metric: [score.low, score.high] for metric, score in scores.items()},
        }

    per_image = {
        key: {metric: _number(score.per_image[key]) for metric, score in everything.items()}
        for key in next(iter(everything.values())).per_image
    }
    return {
        **group(everything),
        "tokenizer": tokenizer,
        "notes": list(notes),
        "domains": {name: group(scores) for name, scores in domains.items()},
        "per_image": per_image,
    }


def _number(value: float) -> float | None:
    return value if value == value else None
