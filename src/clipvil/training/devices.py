"""Where a run computes: one device, or several processes started by `accelerate launch`; and its trackers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from clipvil.errors import UsageError
from clipvil.training import sharding
from clipvil.training.recipe import Recipe


def create_accelerator(recipe: Recipe, out: Path) -> Accelerator:
    """The accelerator of a run: the GPU where there is one, else the CPU; many processes under `accelerate launch`.

    Raises:
        UsageError: a tracker's package is missing, or the launch asks for DeepSpeed or another kind of sharded
            parameters than FSDP2 (see `sharding`), whose state the checkpoints here do not hold.
    """
    for tracker in recipe.training.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise UsageError(
                f"training.trackers asks for {tracker}, which is not installed: pip install clipvil[track]"
            )
    accelerator = Accelerator(log_with=list(recipe.training.trackers) or None, project_dir=str(out))
    kind = accelerator.distributed_type.value
    if kind not in ("NO", "FSDP") and not kind.startswith("MULTI_"):
        raise UsageError(f"training runs on one device, with one model copy a process or with FSDP, not with {kind}")
    if sharding.asked(accelerator):
        sharding.check(accelerator)
    return accelerator


def finish(accelerator: Accelerator, *, more: bool = False) -> None:
    """Close the trackers of a run, and let the processes part; not where `more` runs of theirs follow."""
    if not more:
        accelerator.end_training()
        return
    for tracker in accelerator.trackers:
        tracker.finish()


def best_device() -> str:
    """Where one process evaluates: the first GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def start_trackers(accelerator: Accelerator, recipe: Recipe) -> None:
    """Open the trackers that the recipe names, with the recipe as their configuration."""
    if recipe.training.trackers:
        accelerator.init_trackers("clipvil", config=_flat(recipe.to_values()))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """Trackers take plain values only: one level, no lists, no None."""
    out: dict[str, int | float | str | bool] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return out
