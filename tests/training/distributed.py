"""What `accelerate launch` starts in the distributed test: the toy task without anything random in the model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from clipvil.training.recipe import Recipe
from clipvil.training.run import train
from tests.training.toy import toy_recipe, toy_world


def main(out: Path) -> None:
    """Train six steps from a run of six; dropout and noise are off, because each process draws its own."""
    features, splits = toy_world()
    train(recipe(init__recipe=out.parent / "first.yaml"), out, features=features, datasets=splits, quiet=True)


def recipe(**changes: Any) -> Recipe:
    """The recipe of both phases."""
    return toy_recipe(
        schedule__steps=6, schedule__milestones="[]", training__evaluate_every=3, task_settings__noise=0.0,
        model__dropout=0.0, optimiser__name="sgd", **changes,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
