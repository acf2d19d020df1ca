"""The packaged captioning recipes say what was published, and fit together."""

from __future__ import annotations

import pytest

from clipvil.datasets.registry import load
from clipvil.errors import DataError
from clipvil.images.resize import policy
from clipvil.models.captioner_config import CaptionerConfig, configure
from clipvil.tasks.registry import create_task
from clipvil.training.initial import check, initial_recipe
from clipvil.training.optim import learning_rate_factor
from clipvil.training.recipe import Recipe
from clipvil.training.recipe_files import packaged_recipes

PAPER = [name for name in packaged_recipes() if name.startswith("paper/coco_captions/")]
TRAINED_ON = 113_287
"""Pictures of Karpathy's train and restval."""


def test_every_encoder_has_both_phases() -> None:
    assert {name.rpartition("/")[2] for name in PAPER} == {
        f"{phase}-{encoder}" for phase in ("xe", "scst") for encoder in ("rn50", "rn101", "rn50x4")
    }


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_recipes_are_what_was_published(name: str) -> None:
    recipe = Recipe.from_file(name)
    assert configure(recipe.model) == CaptionerConfig()
    assert policy(recipe.encoder.resize).name == "clipvil-caption"
    optimiser, training = recipe.optimiser, recipe.training
    assert (optimiser.name, optimiser.betas, optimiser.eps, optimiser.weight_decay) == ("adam", (0.9, 0.98), 1e-9, 0)
    assert (training.batch_size, training.grad_clip, training.grad_clip_value) == (10, None, 0.1)
    epochs = recipe.schedule.steps * training.batch_size / TRAINED_ON
    settings = recipe.task_settings
    assert (settings["max_length"], settings["min_word_count"], settings["decode_max_length"]) == (16, 6, 20)
    rates = [optimiser.lr * learning_rate_factor(recipe.schedule, step) for step in (0, 9_999, 19_999, 79_999)]
    if "/xe-" in name:
        assert epochs == pytest.approx(15, abs=0.01)
        assert rates == pytest.approx([1.5625e-8, 1.5625e-4, 3.125e-4, 1.5625e-4], rel=1e-3)
    else:
        assert epochs == pytest.approx(25, abs=0.01)
        assert rates == pytest.approx([5e-6] * 4)
        assert (recipe.init.weights, recipe.init.optimiser) == ("last", True)


@pytest.mark.parametrize("name", [name for name in packaged_recipes() if "caption" in name])
def test_phases_go_on_from_each_other(name: str) -> None:
    recipe = Recipe.from_file(name)
    task = create_task(recipe.task, {k: v for k, v in recipe.task_settings.items() if k != "frequencies"})
    check(recipe, task)
    first = initial_recipe(recipe)
    if first is None:
        assert recipe.task_settings.get("objective", "cross_entropy") == "cross_entropy"
        return
    assert recipe.task_settings["objective"] == "self_critical"
    assert first.task_settings.get("objective", "cross_entropy") == "cross_entropy"
    for section in ("data", "encoder", "model"):
        assert getattr(first, section) == getattr(recipe, section), section
    for key in ("min_word_count", "vocabulary", "max_length", "beams", "decode_max_length", "suppress_unknown"):
        assert first.task_settings.get(key) == recipe.task_settings.get(key), key


def test_the_data_section_is_that_of_the_reader() -> None:
    with pytest.raises(DataError, match=r"dataset_coco\.json"):
        load(Recipe.from_file(PAPER[0]).data, "train")
