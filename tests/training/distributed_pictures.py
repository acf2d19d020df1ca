"""What `accelerate launch` starts in the test of training from pictures: one run after the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState

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
    """Every run of a plan: a JSON list of folder, pictures, changes of the recipe, and whether to go on."""
    for out, pictures, changes, resume in json.loads(plan.read_text()):
        # The end of a run closes the connection between processes; accelerate makes a new one only when it has forgotten.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        run(Path(out), Path(pictures), changes, resume)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
