"""The files of a run folder, written whole or not at all, and read back.

recipe.yaml               the recipe, every default written out
assets.json               what the run was made of: vocabularies, data and encoder fingerprints
checkpoints/              see `checkpoint`
metrics.jsonl             see `metric_log`
best.safetensors          the weights of the best validation score
predictions_<split>.jsonl one prediction a line, in the order of the records, with its own score
initial/                  the run that it starts from, where it had to be trained first (recipe section `init`)
result.json               written last: its presence means that the run is finished
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipvil.errors import CheckpointError, UsageError
from clipvil.files import atomic_write
from clipvil.tasks.base import Prediction, Score, Scores
from clipvil.training.recipe import Recipe

BEST = "best.safetensors"
# What may stand in a folder before its run: features that were extracted there, the run that it starts from, and what
# `compare` knows of a cell.
_BEFORE = ("features", "initial", "cell.json")
# What a run leaves only once something was computed that would be lost.
_LASTING = (BEST, "result.json", "conversion.json")


@dataclass
class RunResult:
    """What a finished run found: `result` as in result.json, and the scores of each split that has answers."""

    result: dict[str, Any]
    scores: dict[str, Scores] = field(default_factory=dict)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the run folder alone. The lock ends with the process, however it ends.

    Raises:
        UsageError: another process works in this folder.
    """
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{out}: another process is at work in this folder") from None
        yield


def refuse_foreign(out: Path) -> None:
    """Refuse to put a run into a folder of something else, before anything is written there.

    Raises:
        UsageError: it is a file, or a folder that is not empty and in which no run was ever begun.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out wants a folder")
    if not out.exists() or (out / "recipe.yaml").exists() or (out / ".lock").exists():
        return
    if any(not path.name.startswith(".") and path.name not in _BEFORE for path in out.iterdir()):
        raise UsageError(f"{out}: is not empty and holds no run; choose another --out")


def holds_run(out: Path) -> bool:
    """Whether the folder holds a run with something to lose: weights, a checkpoint, a result.

    One that failed or was stopped before its first checkpoint blocks nobody: there is nothing to go on from.
    """
    kept = (path for path in (out / "checkpoints").glob("*checkpoint-*") if not path.name.startswith("."))
    return any((out / name).exists() for name in _LASTING) or any(kept)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8"))


def write_predictions(path: Path, predictions: Sequence[Prediction], scores: Scores | None) -> None:
    """One line a prediction; "score" is its own score, None where the split has no answers."""
    per_record = scores.per_record if scores else {}
    with atomic_write(path) as stream:
        for prediction in predictions:
            line = {**prediction.to_json(), "score": per_record.get(prediction.record_id)}
            stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def read_predictions(run: Path, split: str) -> Iterator[tuple[Prediction, float | None]]:
    """The predictions of a split with their scores, line by line.

    Raises:
        CheckpointError: the split was not evaluated, or the file is damaged.
    """
    path = run / f"predictions_{split}.jsonl"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; run `clipvil evaluate {run} --split {split}` first")
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                value = json.loads(line)
                score = value.pop("score")
                value["top"] = tuple((str(output), float(share)) for output, share in value["top"])
                yield Prediction(**value), score
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise CheckpointError(f"{path}, row {number}: not a prediction ({error})") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run folder.

    Raises:
        CheckpointError: it is not there or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is '{path.parent}' a run, and did its training finish?") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: damaged (not a JSON object)")
    return value


def read_recipe(run: Path) -> Recipe:
    """The recipe of a run folder.

    Raises:
        CheckpointError: the folder holds no run.
    """
    if not (run / "recipe.yaml").is_file():
        raise CheckpointError(f"{run}: no run is here (recipe.yaml is missing)")
    return Recipe.from_file(run / "recipe.yaml")


def read_run(run: str | Path) -> RunResult:
    """A finished run as `train` returned it.

    Raises:
        CheckpointError: the run is not finished or a file is damaged.
    """
    run = Path(run)
    result = read_json(run / "result.json")
    return RunResult(result, {split: _read_scores(run, split, value) for split, value in result["scores"].items()})


def _read_scores(run: Path, split: str, value: Mapping[str, Any]) -> Scores:
    per_record, images = {}, {}
    for prediction, score in read_predictions(run, split):
        if score is not None:
            per_record[prediction.record_id] = score
            images[prediction.record_id] = prediction.image_id
    breakdowns = {
        heading: {group: Score(**score) for group, score in groups.items()}
        for heading, groups in value["breakdowns"].items()
    }
    return Scores(value["metric"], value["mode"], Score(**value["overall"]), breakdowns, per_record, images)
