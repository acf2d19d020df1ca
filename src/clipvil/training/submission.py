"""The files that evaluation servers take, written from a run's predictions and read back to be checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from clipvil.errors import DataError, UsageError
from clipvil.tasks.registry import create_task
from clipvil.training.inputs import load_datasets
from clipvil.training.run_files import read_predictions, read_recipe


def write_submission(run: str | Path, server: str, split: str, out: str | Path | None = None) -> tuple[Path, int]:
    """Write the submission of a split; returns its path and how many answers it holds.

    Raises:
        UsageError: an unknown server, or one of another task.
        CheckpointError: the split was not predicted yet.
        DataError: a question of the split has no answer, or the file is not what the server takes.
    """
    run = Path(run)
    if server not in _SERVERS:
        raise UsageError(f"unknown server '{server}'; known are {', '.join(_SERVERS)}")
    wanted, check = _SERVERS[server]
    recipe = read_recipe(run)
    if recipe.task != wanted:
        raise UsageError(f"the server {server} judges the task {wanted}, the run {run} is of the task {recipe.task}")
    predictions = [prediction for prediction, _ in read_predictions(run, split)]
    records = load_datasets(recipe.data, (split,))[split].records
    path = Path(out) if out is not None else run / f"submission_{server}_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place until it was checked: what stands under the right name can be sent.
    draft = path.with_name(f".{path.name}.draft")
    try:
        create_task(recipe.task, recipe.task_settings).submission(predictions, draft)
        check(draft, path, {record.question_id for record in records})
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path, len(predictions)


def _check_vqa2(draft: Path, path: Path, asked: set[str]) -> None:
    """The server takes a JSON list of {"question_id": int, "answer": str}, every question of the split once."""
    rows = json.loads(draft.read_text(encoding="utf-8"))
    given = [row["question_id"] for row in rows]
    for number, row in enumerate(rows, start=1):
        if set(row) != {"question_id", "answer"} or type(row["question_id"]) is not int:
            raise DataError("is not what the server takes", file=path, row=number)
        if not isinstance(row["answer"], str) or not row["answer"]:
            raise DataError("an empty answer", file=path, row=number, field="answer")
    if len(set(given)) != len(given):
        raise DataError("a question is answered twice", file=path)
    missing = {int(key) for key in asked} - set(given)
    if missing:
        raise DataError(
            f"{len(missing)} of {len(asked)} questions have no answer (the first is {min(missing)}); "
            "the server refuses partial files",
            file=path,
            fix="see how many pictures had no features (result.json, data.*.skipped)",
        )
    if len(given) > len(asked):
        raise DataError(f"answers {len(given) - len(asked)} questions that the split does not ask", file=path)


_SERVERS: Mapping[str, tuple[str, Callable[[Path, Path, set[str]], None]]] = {
    "vqa2": ("vqa", _check_vqa2),
}
