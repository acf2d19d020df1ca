"""Trains the toy task in a process that the tests kill and start again."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# The first optimiser and the first gradient norm import these; with them here, the fork server pays once for all.
import torch._dynamo
import torch.distributed.tensor  # noqa: F401

from clipvil.training.run import train
from tests.training.toy import toy_recipe, toy_world


def main(out: Path, workers: int, begun: Connection) -> None:
    """Train, or go on where a killed process stopped. Leads a process group, so that its loader workers die with it."""
    os.setsid()
    features, splits = toy_world()
    recipe = toy_recipe(
        schedule__steps=40, training__evaluate_every=7, training__checkpoint_every=2, training__log_every=3,
        training__loader_workers=workers,
    )  # fmt: skip
    begun.send(True)
    train(recipe, out, features=features, datasets=splits, resume=True, quiet=True)


def phases(out: Path, first: Path, slow: str, begun: Connection) -> None:
    """Train the toy task from a run of itself that is trained first, or go on; slowly in the phase `slow` of the two,

    `initial` or `.`, so that it can be killed in its middle.
    """
    os.setsid()
    features, splits = toy_world()
    recipe = toy_recipe(
        schedule__steps=40, training__evaluate_every=7, training__checkpoint_every=2, training__log_every=2,
        optimiser__lr=0.01, init__recipe=first,
    )  # fmt: skip
    if slow:
        _slow_down(out / slow)
    begun.send(True)
    train(recipe, out, features=features, datasets=splits, resume=True, quiet=True)


def _slow_down(run: Path) -> None:
    """Let every line of the log of a run take its time."""
    from clipvil.training.metric_log import MetricLog

    write = MetricLog.write

    def slowly(self: MetricLog, event: str, step: int, **values: Any) -> None:
        write(self, event, step, **values)
        if self.path.parent.resolve() == run.resolve():
            time.sleep(0.1)

    MetricLog.write = slowly  # type: ignore[method-assign]
