"""Small runs of pre-training on the miniature world, also what `accelerate launch` starts in their tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState

from clipvil.training.recipe import Recipe
from clipvil.training.run import train

SIZES = "data.sizes={train: 30, val: 8, test: 8}"
MODEL = ["model.hidden=32", "model.heads=2", "model.layers=1", "model.feed_forward=64"]


def small(name: str, folder: Path, *overrides: str) -> Recipe:
    """A packaged recipe on a corpus of a few pictures in `folder`, with a small model and ten updates."""
    return Recipe.from_file(
        name,
        [
            f"data.root={folder / 'data'}", SIZES, "schedule.steps=10", "training.batch_size=24",
            "training.evaluate_every=5", "training.log_every=1", "training.checkpoint_every=5",
            "features.precision=fp32",
            *MODEL, *overrides,
        ],
    )  # fmt: skip


def starts_from(folder: Path, recipe: str, *overrides: str) -> list[str]:
    """The overrides that make a small run start from a small run of `recipe` on the same pictures."""
    values = [
        f"data.root={folder / 'data'}", SIZES, "schedule.steps=4", "training.batch_size=24",
        "training.evaluate_every=4",
        *MODEL, *overrides,
    ]  # fmt: skip
    return [f"init.recipe={recipe}", f"init.overrides={json.dumps(values)}"]


def main(plan: Path) -> None:
    """Every run of a plan: a JSON list of folder of the world, folder of the run, and overrides."""
    for folder, out, overrides in json.loads(plan.read_text()):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        train(small("mini/pretrain", Path(folder), *overrides), out, quiet=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
