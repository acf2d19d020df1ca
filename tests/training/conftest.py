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


def caption_recipe(folder: Path, *overrides: str) -> Recipe:
    """A recipe on the captions of the same few pictures, with a small captioner and a few steps."""
    values = {
        "task": "captioning",
        "task_settings": {"min_word_count": 1},
        "data": {"format": "mini_captions", "root": str(folder / "data"), "sizes": {"train": 30, "val": 8, "test": 8}},
        "features": {"store": str(folder / "run" / "features"), "precision": "fp32"},
        "model": {"preset": "mini", "hidden": 32, "feed_size": 64, "encoder_layers": 1, "decoder_layers": 1},
        "optimiser": {"lr": 0.01},
        "schedule": {"name": "noam", "steps": 8, "warmup_steps": 4, "d_model": 32},
        "training": {"batch_size": 16, "evaluate_every": 4, "log_every": 2, "grad_clip_value": 0.1},
    }
    return Recipe.from_values(values, overrides)


@pytest.fixture(scope="session")
def caption_run(mini_run: Path) -> Path:
    """A finished run of the task captioning on the pictures and the feature store of `mini_run`."""
    train(caption_recipe(mini_run.parent), mini_run.parent / "captions", quiet=True)
    return mini_run.parent / "captions"
