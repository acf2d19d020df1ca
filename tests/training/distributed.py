"""What `accelerate launch` starts in the distributed test: the toy task without anything random in the model."""

from __future__ import annotations

import sys
from pathlib import Path

from clipvil.training.run import train
from tests.training.toy import toy_recipe, toy_world


def main(out: Path) -> None:
    """Train six steps; dropout and noise are off, because each process draws its own."""
    features, splits = toy_world()
    recipe = toy_recipe(
        schedule__steps=6, schedule__milestones="[]", training__evaluate_every=3, task_settings__noise=0.0,
        model__dropout=0.0, optimiser__name="sgd",
    )  # fmt: skip
    train(recipe, out, features=features, datasets=splits, quiet=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
