"""What `accelerate launch` starts in the test of training from pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from clipvil.training.run import train
from tests.training.picture_world import picture_recipe, write_pictures


def run(out: Path, pictures: Path, changes: dict[str, str], resume: bool) -> None:
    """Train in `out`, or go on with what is there."""
    train(
        picture_recipe(**changes),
        out,
        datasets=write_pictures(pictures),
        resume=resume,
        allow_recipe_change=resume,
        quiet=True,
    )


def main(plan: Path) -> None:
    """The run of a plan: a JSON list of folder, pictures, changes of the recipe, and whether to go on.

    One run a launch: a second group of processes in the same ones may wait for ever.
    """
    out, pictures, changes, resume = json.loads(plan.read_text())
    run(Path(out), Path(pictures), changes, resume)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
