"""One real run on the miniature world, shared by the tests that ask it something."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.training.recipe import Recipe
from clipvil.training.run import train


def mini_recipe(folder: Path, *overrides: str) -> Recipe:
    """A recipe on a corpus of a few pictures in `folder`, with a small Pythia and a few steps."""
    return Recipe.from_file(
        "mini/vqa",
        [
            f"data.root={folder / 'data'}", "data.sizes={train: 30, val: 8, test: 8}", "schedule.steps=8",
            "schedule.warmup_steps=2", "training.batch_size=32", "training.evaluate_every=4", "training.log_every=2",
            "features.precision=fp32", *overrides,
        ],
    )  # fmt: skip


@pytest.fixture(scope="session")
def mini_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a real encoder, its feature store and its corpus beside it."""
    folder = tmp_path_factory.mktemp("mini")
    train(mini_recipe(folder), folder / "run", quiet=True)
    return folder / "run"
