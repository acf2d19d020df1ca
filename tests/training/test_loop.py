from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from clipvil.errors import CheckpointError, ClipvilError
from clipvil.tasks.base import Scores
from clipvil.training.devices import create_accelerator
from clipvil.training.evaluation import predict_all
from clipvil.training.loop import Loop, Position, ResumeOptions
from clipvil.training.metric_log import read_lines
from clipvil.training.randomness import seed_everything
from clipvil.training.recipe import Recipe
from tests.training.toy import ToyTask, toy_recipe, toy_world

TIMES = ("seconds", "records_per_second")


def run(
    out: Path,
    recipe: Recipe,
    *,
    explode_at: int | None = None,
    kind: type[ToyTask] = ToyTask,
    judged: Iterator[float] | None = None,
    **options: Any,
) -> tuple[Loop, Position]:
    """Train the toy task in `out`; `explode_at` counts the steps of this call, `judged` are values of evaluations."""
    features, splits = toy_world()
    task = kind({"explode_at": explode_at})
    task.prepare(splits["train"].records)
    seed_everything(recipe.seed, "model")
    model = task.build(recipe.model, features.spec)
    val = splits["val"].records

    def validate(plain: nn.Module) -> Scores:
        scores = task.score(predict_all(task, plain, val, features, batch_size=16), val)
        return scores if judged is None else replace(scores, overall=replace(scores.overall, value=next(judged)))

    accelerator = create_accelerator(recipe, out)
    loop = Loop(
        task,
        model,
        splits["train"].records,
        features,
        recipe,
        out,
        validate=validate,
        accelerator=accelerator,
        quiet=True,
    )
    return loop, loop.run(ResumeOptions(**options))


def tensors(out: Path, step: int) -> tuple[bytes, bytes]:
    """The bytes of a checkpoint's weights and optimiser."""
    folder = out / "checkpoints" / f"checkpoint-{step}"
    return (folder / "model.safetensors").read_bytes(), (folder / "optimiser.safetensors").read_bytes()


def log(out: Path) -> list[dict[str, Any]]:
    """The metric log without the times."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_lines(out / "metrics.jsonl")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps in one go, evaluated at steps 3, 6, 9 and 10, logged every 2."""
    out = tmp_path_factory.mktemp("undisturbed")
    run(out, ten_steps())
    return out


def ten_steps(**changes: Any) -> Recipe:
    return toy_recipe(
        schedule__steps=10, schedule__milestones="[8]", training__evaluate_every=3, training__log_every=2, **changes
    )


def test_it_learns(tmp_path: Path) -> None:
    recipe = toy_recipe(schedule__steps=150, schedule__milestones="[120]", training__evaluate_every=50)
    _, position = run(tmp_path, recipe)
    assert position.best_value is not None
    assert position.best_value > 90
    assert position.curve[0]["loss"] > position.curve[-1]["loss"]
    assert (position.step, position.stopped) == (150, "steps")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("optimiser", ["adamax", "sgd"])
def test_ten_steps_are_five_and_five_bit_for_bit(tmp_path: Path, workers: int, optimiser: str) -> None:
    changes = {"optimiser__name": optimiser, "optimiser__momentum": 0.9, "training__loader_workers": workers}
    once, twice = tmp_path / "once", tmp_path / "twice"
    run(once, ten_steps(**changes))
    every = ten_steps(**changes, training__checkpoint_every=5)
    with pytest.raises(ClipvilError, match="at step 7"):
        run(twice, every, explode_at=7)
    # Step 6 was evaluated and kept; without it the run must go back to step 5.
    for entry in (twice / "checkpoints" / "checkpoint-6").iterdir():
        entry.unlink()
    (twice / "checkpoints" / "checkpoint-6").rmdir()
    _, position = run(twice, every, resume=True)
    assert position.step == 10
    assert tensors(twice, 10) == tensors(once, 10)
    assert log(twice) == log(once)
    assert [entry["value"] for entry in position.curve] == [line["value"] for line in log(once) if "value" in line]


@pytest.mark.parametrize("stop", [1, 4, 7, 8, 10])
def test_resumed_from_any_step_weights_and_log_are_those_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: Path, stop: int
) -> None:
    with pytest.raises(ClipvilError):
        run(tmp_path, ten_steps(), explode_at=stop)
    run(tmp_path, ten_steps(), resume=True)
    assert tensors(tmp_path, 10) == tensors(undisturbed, 10)
    assert log(tmp_path) == log(undisturbed)


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_workers_change_nothing(tmp_path: Path, undisturbed: Path, workers: int) -> None:
    run(tmp_path, ten_steps(training__loader_workers=workers))
    assert tensors(tmp_path, 10) == tensors(undisturbed, 10)


def test_how_often_it_evaluates_does_not_touch_the_weights(tmp_path: Path, undisturbed: Path) -> None:
    run(tmp_path, ten_steps().with_overrides("training.evaluate_every=10"))
    assert tensors(tmp_path, 10) == tensors(undisturbed, 10)


def test_another_seed_gives_other_weights(tmp_path: Path, undisturbed: Path) -> None:
    run(tmp_path, ten_steps(seed=1))
    assert tensors(tmp_path, 10) != tensors(undisturbed, 10)


def test_a_nan_names_its_step_and_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ClipvilError, match=r"loss is nan at step 5 .*last checkpoint is of step 3"):
        run(tmp_path, ten_steps(), explode_at=5)
    with pytest.raises(ClipvilError, match=r"at step 1 .*no checkpoint yet"):
        run(tmp_path / "other", ten_steps(), explode_at=1)


def test_the_best_weights_are_left_in_the_model(tmp_path: Path) -> None:
    # A rate this high makes the last evaluation worse than the best one.
    recipe = toy_recipe(optimiser__lr=0.5, schedule__steps=60, schedule__milestones="[]", training__evaluate_every=5)
    loop, position = run(tmp_path, recipe)
    values = {entry["step"]: entry["value"] for entry in position.curve}
    assert position.best_value == max(values.values())
    assert position.best_step == min(step for step, value in values.items() if value == position.best_value)
    assert loop.validate(loop.model).overall.value == position.best_value
    assert position.best_step in loop.checkpoints.steps()


def test_patience_stops_and_resuming_a_stopped_run_does_nothing_more(tmp_path: Path) -> None:
    recipe = toy_recipe(optimiser__lr=1e-9, training__patience=2, training__evaluate_every=5)
    _, position = run(tmp_path, recipe)
    assert (position.stopped, position.step) == ("patience", 15)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    _, again = run(tmp_path, recipe, resume=True)
    assert (again.stopped, again.step) == ("patience", 15)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


class Staged(ToyTask):
    """From the second epoch on it is asked for more."""

    def at_epoch(self, epoch: float) -> None:
        self.epoch = epoch

    def stage(self) -> int:
        return int(self.epoch >= 1)


def test_the_best_step_is_of_the_last_stage_and_patience_counts_anew(tmp_path: Path) -> None:
    # 300 questions: an epoch ends within step 13, so that from the evaluation at step 15 on the second stage is judged.
    recipe = toy_recipe(training__patience=2, training__evaluate_every=5)
    values = [90.0, 80.0, 40.0, 45.0, 44.0, 43.0, 46.0]
    _, position = run(tmp_path, recipe, kind=Staged, judged=iter(values))
    assert (position.best_step, position.best_value) == (20, 45.0)
    assert (position.stopped, position.step) == ("patience", 30)
    assert [entry["value"] for entry in position.curve] == values[:6]


def test_another_recipe_is_refused_with_its_differences(tmp_path: Path) -> None:
    run(tmp_path, ten_steps())
    longer = ten_steps().with_overrides("schedule.steps=12", "optimiser.lr=0.01")
    with pytest.raises(CheckpointError, match=r"optimiser.lr: 0.02 -> 0.01; schedule.steps: 10 -> 12.*--allow-recipe"):
        run(tmp_path, longer, resume=True)
    _, position = run(tmp_path, longer, resume=True, allow_recipe_change=True)
    assert position.step == 12


def test_settings_without_effect_may_change_between_resumptions(tmp_path: Path, undisturbed: Path) -> None:
    with pytest.raises(ClipvilError):
        run(tmp_path, ten_steps(), explode_at=8)
    run(tmp_path, ten_steps(training__loader_workers=1, training__checkpoint_every=1), resume=True)
    assert tensors(tmp_path, 10) == tensors(undisturbed, 10)


def test_a_damaged_checkpoint_is_not_passed_over_in_silence(tmp_path: Path, undisturbed: Path) -> None:
    with pytest.raises(ClipvilError):
        run(tmp_path, ten_steps(), explode_at=8)
    weights = tmp_path / "checkpoints" / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"damaged.*--allow-older"):
        run(tmp_path, ten_steps(), resume=True)
    run(tmp_path, ten_steps(), resume=True, allow_older=True)
    assert tensors(tmp_path, 10) == tensors(undisturbed, 10)
    assert log(tmp_path) == log(undisturbed)


def test_torch_is_left_as_it_was_found(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    run(tmp_path, ten_steps())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_recipe_may_ask_for_fewer_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(tmp_path, ten_steps(training__threads=1))
    finally:
        torch.set_num_threads(before)
    state = json.loads((tmp_path / "checkpoints" / "checkpoint-10" / "state.json").read_text())
    assert state["threads"] == 1


def test_bf16_trains_and_resumes_exactly(tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    recipe = ten_steps(training__mixed_precision="bf16")
    run(once, recipe)
    with pytest.raises(ClipvilError):
        run(twice, recipe, explode_at=5)
    run(twice, recipe, resume=True)
    assert tensors(twice, 10) == tensors(once, 10)


def test_the_state_of_a_checkpoint_is_plain_json(tmp_path: Path, undisturbed: Path) -> None:
    state = json.loads((undisturbed / "checkpoints" / "checkpoint-10" / "state.json").read_text())
    assert state["position"]["step"] == 10
    assert Recipe.from_values(state["recipe"]).hash() == state["recipe_hash"]


def test_gradients_may_be_cut_weight_by_weight(tmp_path: Path) -> None:
    """With plain gradient descent of rate 1 the first step moves each weight by its gradient."""
    settings = {
        "schedule__steps": 1,
        "schedule__milestones": "[9]",
        "schedule__warmup_steps": 0,
        "training__evaluate_every": 1,
    }
    moved = {}
    for name, most in (("free", "null"), ("cut", 1e-3)):
        recipe = toy_recipe(
            optimiser__name="sgd",
            optimiser__lr=1.0,
            training__grad_clip="null",
            training__grad_clip_value=most,
            **settings,
        )
        features, splits = toy_world()
        task = ToyTask({})
        task.prepare(splits["train"].records)
        seed_everything(recipe.seed, "model")
        before = task.build(recipe.model, features.spec).state_dict()
        loop, _ = run(tmp_path / name, recipe)
        moved[name] = torch.cat([(loop.model.state_dict()[key] - before[key]).flatten() for key in before])
    torch.testing.assert_close(moved["cut"], moved["free"].clamp(-1e-3, 1e-3), rtol=0, atol=1e-6)
    assert moved["free"].abs().max() > 1e-3
