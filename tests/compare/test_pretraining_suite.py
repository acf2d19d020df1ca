"""Comparisons of what pre-training gives: one recipe several times in a suite, cells that start from another corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipvil.compare.matrix import compare
from clipvil.compare.plan import make_plan
from clipvil.compare.results import Results
from clipvil.compare.suite import Suite, merge
from clipvil.errors import RecipeError

DATA = {"root": "{out}/data", "sizes": {"train": 24, "val": 8, "test": 12}, "seed": 5}
SMALL = (
    "model.hidden=32", "model.heads=2", "model.layers=1", "model.feed_forward=64", "schedule.steps=4",
    "training.evaluate_every=4", "training.batch_size=24", "features.precision=fp32",
)  # fmt: skip


def task(recipe: str, label: str, *overrides: str, **more: Any) -> dict[str, Any]:
    return {"recipe": recipe, "label": label, "overrides": list(overrides), **more}


SUITE = {
    "encoders": ["mini/random"],
    "tasks": [
        task("mini/vqa-clip-vil-p", "vqa, scratch", "init.recipe=null", "training.share=0.5"),
        task("mini/vqa-clip-vil-p", "vqa, pre-trained", "training.share=0.5", question_only=False),
        task("mini/entailment-clip-vil-p", "entailment, pre-trained", question_only=False),
    ],
    "data": DATA,
    "overrides": list(SMALL),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    out = tmp_path_factory.mktemp("out")
    return out, compare(Suite.from_values(SUITE), out=out, quiet=True)


def test_pre_training_is_one_run_for_both_tasks_on_the_features_of_the_first(world: tuple[Path, Results]) -> None:
    out, results = world
    assert results.complete and not results.failures
    (initial,) = results.initial_runs
    assert initial.status == "done" and initial.path.startswith("initial/mini-pretrain-")
    assert [cell.starts_from for cell in results.cells if "pre-trained" in cell.task] == [initial.path] * 2
    before = json.loads((out / initial.path / "result.json").read_text())
    assert before["task"] == "pretraining" and before["recipe"]["data"]["root"] == str(out / "data")
    assert before["recipe"]["model"]["hidden"] == 32  # what is changed in every recipe is changed there
    stores = {
        json.loads((out / cell.path / "result.json").read_text())["recipe"]["features"]["store"]
        for cell in results.cells
    }
    assert before["recipe"]["features"]["store"] in stores
    assert len(list((out / "features").iterdir())) == len(stores - {None})
    tuned = json.loads((out / results.cells[1].path / "result.json").read_text())
    assert tuned["init"]["answers"]["found"] > 0 and tuned["data"]["train"]["records"] < 24 * 8


def test_tasks_of_one_corpus_are_held_against_each_other_and_the_floor_stands_where_asked(
    world: tuple[Path, Results],
) -> None:
    _, results = world
    pairs = {(found.a, found.b) for found in results.task_differences if found.split == "test"}
    assert pairs == {("vqa-pre-trained", "vqa-scratch")}
    assert [cell.task for cell in results.cells if cell.encoder == "question-only"] == ["vqa-scratch"]


def test_the_same_call_trains_nothing_again(world: tuple[Path, Results]) -> None:
    out, results = world
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")}
    assert len(weights) == 5
    again = compare(Suite.from_values(SUITE), out=out, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("best.safetensors")} == weights
    assert again.complete and [cell.path for cell in again.cells] == [cell.path for cell in results.cells]


def test_the_packaged_suite_is_the_ablation(tmp_path: Path) -> None:
    plan = make_plan(merge("mini-pretraining", data=DATA, overrides=["training.batch_size=24"]), tmp_path)
    assert len(plan.tasks) == 12 and len(plan.initials) == 2 and len(plan.cells) == 16
    starts = {cell.task.name: cell.start.task.name if cell.start else "" for cell in plan.cells}
    for name, start in starts.items():
        wanted = "" if "not-pre" in name else "mini-pretrain-no-qa" if "without-QA" in name else "mini-pretrain"
        assert start == wanted
        share = next(cell.recipe.training.share for cell in plan.cells if cell.task.name == name)
        assert share == (0.1 if "-10-" in name else 1.0)
    blind = [cell.task.name for cell in plan.cells if cell.entry.name == "question-only"]
    assert len(blind) == 4 and all("not-pre-trained" in name for name in blind)
    # All fine-tuning with few data, and all with all of them, is the same but for where it starts.
    recipes = {
        json.dumps({**cell.recipe.to_values(), "init": None, "encoder": None, "features": None}, sort_keys=True)
        for cell in plan.cells
    }
    assert len(recipes) == 4


def test_labels_tell_entries_of_one_recipe_apart() -> None:
    values = {**SUITE, "tasks": [task("mini/vqa", "same"), task("mini/vqa-mcan", "same")]}
    with pytest.raises(RecipeError, match="the task same comes twice"):
        Suite.from_values(values)
    suite = Suite.from_values({**SUITE, "tasks": ["mini/vqa", task("mini/vqa", "", "seed=1")]})
    assert [entry.title for entry in suite.tasks] == ["mini/vqa", "mini/vqa seed=1"]
    with pytest.raises(RecipeError, match="recipee"):
        Suite.from_values({**SUITE, "tasks": [{"recipee": "mini/vqa"}]})
