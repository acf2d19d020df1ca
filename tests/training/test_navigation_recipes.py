"""The packaged navigation recipes fit the rooms that read them, and hold what was published."""

from __future__ import annotations

import pytest

from clipvil.compare.suite import Suite
from clipvil.datasets.registry import split_names
from clipvil.models.envdrop_config import configure
from clipvil.tasks.registry import create_task
from clipvil.tasks.vln import Navigation
from clipvil.training.initial import initial_recipe
from clipvil.training.recipe import Recipe
from clipvil.training.recipe_files import packaged_recipes

NAMES = [name for name in packaged_recipes() if "navigation" in name]
FOLLOWERS = [name for name in NAMES if name.startswith("paper/") and "speaker" not in name]
MULTILINGUAL = "paper/navigation/rxr-multilingual-vit-b32"
FOLLOWERS.remove(MULTILINGUAL)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_name_tasks_models_and_splits_that_exist(name: str) -> None:
    recipe = Recipe.from_file(name)
    create_task(recipe.task, recipe.task_settings)
    configure(recipe.model)
    if recipe.data["format"] != "mini_r2r":
        assert split_names(recipe.data)[:2] == ["train", "val_seen"]
        assert "val" in split_names(recipe.data)
    before = initial_recipe(recipe)
    while before is not None:
        assert configure(before.model).angle_size == configure(recipe.model).angle_size
        before = initial_recipe(before)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_published_followers_are_what_was_published(name: str) -> None:
    recipe = Recipe.from_file(name)
    config, rxr, translating = configure(recipe.model), "rxr" in name, "backtranslation" in name
    assert (config.stop, config.action_angles, config.start, config.normalise) == ("zero", "absolute", "max", False)
    assert (config.hidden, config.angle_size, config.dropout) == (512, 128, 0.5)
    assert config.feature_dropout == (0.4 if translating else 0.3)
    task = create_task(recipe.task, recipe.task_settings)
    assert isinstance(task, Navigation)
    assert task.settings.max_words == (160 if rxr else 80)
    assert task.settings.imitation_weight == (0.4 if rxr else 0.2)
    assert (task.settings.minibatches, task.settings.teacher) == ("next", "shortest")
    assert (recipe.optimiser.name, recipe.optimiser.lr, recipe.training.grad_clip) == ("rmsprop", 1e-4, 40.0)
    assert task.settings.back_translation is translating


def test_the_multilingual_follower_is_read_by_a_bert_with_its_own_rate() -> None:
    recipe = Recipe.from_file(MULTILINGUAL)
    task = create_task(recipe.task, recipe.task_settings)
    assert isinstance(task, Navigation)
    assert (task.settings.text, task.settings.bert) == ("bert", "bert-base-multilingual-cased")
    assert (task.settings.teacher, task.settings.max_steps, task.settings.max_words) == ("reference", 70, 160)
    assert recipe.data["languages"] == ["en", "hi", "te"]
    assert configure(recipe.model).hidden == 768
    assert recipe.trunk.optimiser is not None
    assert (recipe.trunk.optimiser.lr, recipe.optimiser.lr) == (4e-5, 1e-4)


@pytest.mark.parametrize("name", ["mini-navigation", "mini-backtranslation"])
def test_suites_look_at_other_houses_than_the_recipes_were_made_with(name: str) -> None:
    suite = Suite.load(name)
    assert suite.data is not None
    for task in suite.tasks:
        assert Recipe.from_file(task.recipe).data["seed"] != suite.data["seed"]
