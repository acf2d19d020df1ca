"""Trains the toy task in a process that the tests kill and start again."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path

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
