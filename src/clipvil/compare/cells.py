"""One cell of the matrix: skipped when it is finished, resumed when it was killed, made anew when it is another."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from clipvil.compare.cell_plan import CellPlan
from clipvil.errors import CheckpointError, ClipvilError
from clipvil.features.base import FeatureSource
from clipvil.files import atomic_write_json
from clipvil.training.inputs import set_hash
from clipvil.training.metric_log import read_lines
from clipvil.training.recipe import Recipe
from clipvil.training.run import train
from clipvil.training.run_files import RunResult, read_run

_MARK = "cell.json"
_LONGEST = 300


def finished(cell: CellPlan, out: Path) -> RunResult | None:
    """The run of a cell that has nothing left to do, or None.

    Raises:
        CheckpointError: the run says that it is finished, but its files are damaged.
    """
    folder = out / cell.path
    if _mark(folder) != _mark_of(cell) or not (folder / "result.json").exists():
        return None
    return read_run(folder)


def run_cell(cell: CellPlan, out: Path, features: FeatureSource, *, keep: bool = False, quiet: bool = False) -> None:
    """Train a cell, from its last checkpoint where there is one.

    `keep` leaves its checkpoints where they are, for cells that start from them.

    A folder that holds another run (of a suite that was changed since, or on other pictures), or one that cannot be
    resumed (its checkpoints are damaged, or of a version of clipvil with another model), is set aside under a new name,
    never removed.
    Raises whatever `clipvil.training.run.train` raises.
    """
    folder = out / cell.path
    begun = (folder / "recipe.yaml").exists()
    if begun and _mark(folder) != _mark_of(cell):
        _set_aside(folder)
        begun = False
    try:
        _train(cell, folder, features, begun, quiet)
    except CheckpointError:
        if not begun:
            raise
        _set_aside(folder)
        _train(cell, folder, features, False, quiet)
    # Checkpoints serve resuming alone; best.safetensors has the weights that count.
    if not keep:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _train(cell: CellPlan, folder: Path, features: FeatureSource, begun: bool, quiet: bool) -> None:
    atomic_write_json(folder / _MARK, _mark_of(cell))
    # The same key with another hash: only the place of the data differs, as after the folder was moved.
    moved = begun and Recipe.from_file(folder / "recipe.yaml").hash() != cell.recipe.hash()
    train(
        cell.recipe,
        folder,
        features=features,
        datasets=cell.task.datasets,
        resume=begun,
        allow_older=True,
        allow_recipe_change=moved,
        quiet=quiet,
    )


def progress_of(folder: Path) -> str:
    """How far a run is, from its log: `step 400, val 61.2`."""
    path = folder / "metrics.jsonl"
    lines = read_lines(path) if path.exists() else []
    if not lines:
        return "starting"
    value = next((line["value"] for line in reversed(lines) if line["event"] == "evaluate"), None)
    return f"step {lines[-1]['step']}" + (f", val {value:.1f}" if value is not None else "")


def one_line(error: Exception) -> str:
    """An error as it stands in the report: what went wrong, on one line of readable length."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " \u2026"
    if isinstance(error, ClipvilError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def debugging() -> bool:
    """Whether `--debug` asks for tracebacks instead of lines."""
    return bool(os.environ.get("CLIPVIL_DEBUG"))


def _mark_of(cell: CellPlan) -> dict[str, str]:
    """What the folder of a cell says of it: what was asked for, and which pictures of it were left out."""
    return {"key": cell.key(), "left_out": set_hash(cell.task.left_out)}


def _mark(folder: Path) -> dict[str, str] | None:
    try:
        value = json.loads((folder / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {"left_out": "", **value} if isinstance(value, dict) else None


def _set_aside(folder: Path) -> None:
    number = 1
    while (target := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    folder.replace(target)
