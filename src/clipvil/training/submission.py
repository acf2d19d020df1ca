"""The files that evaluation servers take: written from a run's predictions and read back, or checked as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Row, iter_rows
from clipvil.datasets.columns import column_of
from clipvil.errors import DataError, UsageError
from clipvil.files import atomic_write_json
from clipvil.tasks.base import Prediction
from clipvil.tasks.registry import create_task
from clipvil.training.inputs import load_datasets
from clipvil.training.recipe import Recipe
from clipvil.training.run_files import read_predictions, read_recipe


@dataclass(frozen=True)
class Server:
    """What one server takes: a JSON list of objects with an id and an answer and nothing else, each question once.

    `numeric`: ids are whole numbers in the file, otherwise strings. `noun` is what is answered: a question, or a
    picture that gets a caption.
    """

    tasks: tuple[str, ...]
    id_field: str
    answer_field: str
    numeric: bool
    reader: str
    about: str
    noun: str = "question"
    record_field: str = "question_id"


_DIGITS = 18
"""Of an id that is a number: what fits into 64 bits."""
NAVIGATION = ("r2r", "rxr")
"""Servers that take walks, see `clipvil.tasks.navigation_submission`."""
VCR = "vcr"
"""The server that takes 20 probabilities a question, in a table."""
_ANSWERING = ("vqa", "zero_shot_vqa")

SERVERS: Mapping[str, Server] = {
    "vqa2": Server(
        _ANSWERING,
        "question_id",
        "answer",
        True,
        "vqa_v2",
        "VQA v2 on EvalAI: test-dev and test-std take all of test2015",
    ),
    "gqa": Server(
        _ANSWERING, "questionId", "prediction", False, "gqa", "GQA on EvalAI: all of submission_all_questions"
    ),
    "coco": Server(
        ("captioning",),
        "image_id",
        "caption",
        True,
        "coco_captions",
        "COCO captions: all of val2014 and test2014, each as captions_<split>2014_<name>_results.json in one zip",
        "picture",
        "image_id",
    ),
}


def write_submission(run: str | Path, server: str, split: str, out: str | Path | None = None) -> tuple[Path, int]:
    """Write the submission of a split; returns its path and how many answers it holds.

    Raises:
        UsageError: an unknown server, or one of another task.
        CheckpointError: the split was not predicted yet.
        DataError: a question of the split has no answer, or the file is not what the server takes.
    """
    run = Path(run)
    recipe = read_recipe(run)
    if server in NAVIGATION or recipe.task == "navigation":
        return _write_walks(run, recipe, server, split, out)
    if VCR in (server, recipe.task):
        return _write_probabilities(run, recipe, server, split, out)
    taken = _server(server)
    if recipe.task not in taken.tasks:
        raise UsageError(
            f"the server {server} judges the task {taken.tasks[0]}, the run {run} is of the task {recipe.task}"
        )
    predictions = [prediction for prediction, _ in read_predictions(run, split)]
    records = load_datasets(recipe.data, (split,))[split].records
    path = Path(out) if out is not None else run / f"submission_{server}_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place until it was checked: what stands under the right name can be sent.
    draft = path.with_name(f".{path.name}.draft.json")
    try:
        if server == "vqa2":
            create_task(recipe.task, recipe.task_settings).submission(predictions, draft)
        else:
            atomic_write_json(draft, submission_rows(server, predictions), indent=None)
        _check(draft, path, taken, _ids(records, taken))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path, len(predictions)


def _write_walks(run: Path, recipe: Recipe, server: str, split: str, out: str | Path | None) -> tuple[Path, int]:
    """The same for navigation, whose files hold walks. Raises UsageError, CheckpointError, DataError."""
    from clipvil.tasks.navigation_submission import write_walks

    if server not in NAVIGATION:
        raise UsageError(f"the run {run} is of the task navigation, whose servers are {' and '.join(NAVIGATION)}")
    if recipe.task != "navigation":
        raise UsageError(f"the server {server} judges the task navigation, the run {run} is of the task {recipe.task}")
    predictions = [prediction for prediction, _ in read_predictions(run, split)]
    data = load_datasets(recipe.data, (split,))[split]
    if data.graphs is None:
        raise DataError(f"the data of split '{split}' names no navigation graphs", fix="set data.graphs")
    suffix = "json" if server == "r2r" else "jsonl"
    path = Path(out) if out is not None else run / f"submission_{server}_{split}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, write_walks(server, predictions, data.records, data.graphs, path)


def _write_probabilities(
    run: Path, recipe: Recipe, server: str, split: str, out: str | Path | None
) -> tuple[Path, int]:
    """The same for VCR, whose file is a table. Raises UsageError, CheckpointError, DataError."""
    if server != VCR or recipe.task != VCR:
        raise UsageError(f"the server vcr judges the task vcr and no other; the run {run} is of the task {recipe.task}")
    predictions = [prediction for prediction, _ in read_predictions(run, split)]
    asked = set(column_of(load_datasets(recipe.data, (split,))[split].records, "annotation_id"))
    answered = {prediction.record_id for prediction in predictions}
    if missing := asked - answered:
        raise DataError(
            f"{len(missing)} of {len(asked)} questions of the split have no answer ({_some(missing)})",
            fix="had pictures no features (result.json, data.*.skipped)?",
        )
    if extra := answered - asked:
        raise DataError(f"{len(extra)} answers are to no question of the split ({_some(extra)})")
    path = Path(out) if out is not None else run / f"submission_{server}_{split}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    create_task(recipe.task, recipe.task_settings).submission(predictions, path)
    return path, len(predictions)


def check_submission(path: str | Path, server: str, questions: str | Path) -> int:
    """Check a file that is there already against the server's questions file; returns how many answers it holds.

    Raises:
        UsageError: an unknown server.
        DataError: the file is not what the server takes, or does not answer each of the questions once; names the row.
    """
    import importlib

    if server in NAVIGATION:
        raise UsageError("files of walks are checked by `clipvil score navigation`, which knows the graphs")
    if server == VCR:
        return _check_probabilities(Path(path), questions)
    taken, path = _server(server), Path(path)
    reader = importlib.import_module(f"clipvil.datasets.{taken.reader}")
    # Several captions are about one picture, which is answered once.
    records = reader.read_coco(questions)[0] if taken.noun == "picture" else reader.read_questions(questions)
    asked = _ids(records, taken)
    if path.suffix.lower() != ".json":
        raise DataError("the server takes a .json file", file=path)
    return _check(path, path, taken, asked)


def _check_probabilities(path: Path, questions: str | Path) -> int:
    """The same for VCR's table. Raises DataError."""
    from clipvil.datasets.vcr import read_vcr
    from clipvil.datasets.vcr_results import read_said
    from clipvil.tasks.vcr_scores import COLUMNS, columns_of

    said, asked = read_said(path), set(read_vcr(questions).column("annotation_id"))
    for ids, what in ((asked - said.keys(), "questions have no answer"), (said.keys() - asked, "answers too many")):
        if ids:
            raise DataError(f"{len(ids)} {what} ({_some(ids)}); the server takes one row a question", file=path)
    for key, one in said.items():
        missing = [name for name in COLUMNS if name not in columns_of(one)]
        if missing:
            raise DataError(f"question {key} has no {missing[0]}; the server takes all 20", file=path)
    return len(said)


def _server(name: str) -> Server:
    if name not in SERVERS:
        raise UsageError(f"unknown server '{name}'; known are {', '.join([*SERVERS, VCR, *NAVIGATION])}")
    return SERVERS[name]


def _ids(records: Sequence[Any], server: Server) -> set[str]:
    column = getattr(records, "column", None)
    if column is not None:
        return set(column(server.record_field))
    return {getattr(record, server.record_field) for record in records}


def submission_rows(server: str, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The rows of a server's file. Raises UsageError for an unknown server, DataError for an id that it cannot take."""
    taken = _server(server)
    rows: list[dict[str, Any]] = []
    for prediction in predictions:
        key = prediction.image_id if taken.noun == "picture" else prediction.record_id
        if taken.numeric and not (key.isdecimal() and len(key) <= _DIGITS):
            raise DataError(
                f"the server {server} takes {taken.noun} ids that are whole numbers, and {key[:40]!r} is none "
                f"(of at most {_DIGITS} digits)",
                field=taken.id_field,
            )
        rows.append({taken.id_field: int(key) if taken.numeric else key, taken.answer_field: prediction.output})
    return rows


def _check(file: Path, name: Path, server: Server, asked: Collection[str]) -> int:
    """Check `file`, called `name` in errors: every question that was asked once, and nothing else."""
    given: dict[str, int] = {}
    for row in iter_rows(file):
        key = _key(Row(row.value, name, row.row), server)
        if key in given:
            raise DataError(
                f"{server.noun} {key} is answered twice, first in row {given[key]}",
                file=name,
                row=row.row,
                field=server.id_field,
            )
        given[key] = row.row
    missing = [key for key in asked if key not in given]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(asked)} {server.noun}s have no answer ({_some(missing)}); "
            "the server refuses partial files",
            file=name,
            fix="was it another split's, or had pictures no features (result.json, data.*.skipped)?",
        )
    extra = [key for key in given if key not in asked]
    if extra:
        verb = "ask" if server.noun == "question" else "have"
        raise DataError(
            f"answers {len(extra)} {server.noun}s that the split does not {verb} ({_some(extra)})", file=name
        )
    return len(given)


def _key(row: Row, server: Server) -> str:
    if set(row.value) != {server.id_field, server.answer_field}:
        raise row.error(f"must be an object with {server.id_field} and {server.answer_field} and nothing else")
    key = row.value[server.id_field]
    kind = "a whole number" if server.numeric else "a string"
    if type(key) is not (int if server.numeric else str):
        raise row.error(f"must be {kind}, not {key!r}", server.id_field)
    row.text(server.answer_field)
    return str(key)


def _some(ids: Iterable[str]) -> str:
    listed = sorted(ids, key=lambda key: (len(key), key))
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
