"""Runs that start from another run: in one go, by hand, killed in either phase, and refused."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from clipvil.errors import CheckpointError, RecipeError
from clipvil.tasks.base import InitialRun
from clipvil.tasks.registry import list_tasks, register_task
from clipvil.training.metric_log import read_lines
from clipvil.training.recipe import Recipe
from clipvil.training.run import evaluate, train
from tests.training import killable
from tests.training.conftest import mini_recipe
from tests.training.test_kill import SERVER
from tests.training.toy import ToyTask, toy_recipe, toy_world


class Heir(ToyTask):
    """The toy task under another name, which takes the first layer of a run of `toy`."""

    name = "toy_heir"

    def continue_from(self, initial: InitialRun, train: Sequence[Any]) -> None:
        self.answers = [*reversed(initial.assets["answers"])]

    def adopt(self, model: nn.Module, initial: InitialRun) -> Mapping[str, Any]:
        tensors = {k: v for k, v in load_file(initial.weights).items() if k.startswith("0.")}
        model.load_state_dict(tensors, strict=False)
        return {"taken": sorted(tensors)}


if "toy_heir" not in list_tasks():
    register_task("toy_heir", Heir)


def quick(**changes: Any) -> Recipe:
    short = {"schedule__steps": 8, "schedule__milestones": "[]", "training__evaluate_every": 4}
    return toy_recipe(**{**short, **changes})


def write(folder: Path, recipe: Recipe, name: str = "first.yaml") -> Path:
    (folder / name).write_text(recipe.to_yaml())
    return folder / name


def run(recipe: Recipe, out: Path, **options: Any) -> dict[str, Any]:
    features, splits = toy_world()
    return train(recipe, out, features=features, datasets=splits, quiet=True, **options).result


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "run"
    run(quick(), out)
    return out


def weights(run: Path) -> bytes:
    return (run / "best.safetensors").read_bytes()


def test_phases_of_the_vqa_task_are_two_runs_by_hand_to_the_bit(tmp_path: Path) -> None:
    first = write(tmp_path, mini_recipe(tmp_path, "schedule.steps=4"))
    store = f"features.store={tmp_path / 'store'}"
    second = mini_recipe(tmp_path, "schedule.steps=4", "optimiser.lr=0.001", store)
    train(second.with_overrides(f"init.recipe={first}"), tmp_path / "phases", quiet=True)
    train(mini_recipe(tmp_path, "schedule.steps=4", store), tmp_path / "one", quiet=True)
    train(second.with_overrides(f"init.run={tmp_path / 'one'}"), tmp_path / "two", quiet=True)
    assert weights(tmp_path / "phases" / "initial") == weights(tmp_path / "one")
    assert weights(tmp_path / "phases") == weights(tmp_path / "two")
    for name in ("predictions_test.jsonl", "assets.json"):
        assert (tmp_path / "phases" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    train(second, tmp_path / "fresh", quiet=True)
    assert weights(tmp_path / "fresh") != weights(tmp_path / "two")
    # What was trained first is a run like any other, and finds the features of the whole.
    assert evaluate(tmp_path / "phases" / "initial", "test", quiet=True) is not None


def test_the_result_tells_where_it_started(tmp_path: Path, first: Path) -> None:
    result = run(quick(init__run=first), tmp_path / "a")
    origin = result["init"]
    before = json.loads((first / "result.json").read_text())
    assert (origin["task"], origin["weights"], origin["taken"]) == ("toy", "best", "everything")
    assert origin["step"] == before["best"]["step"]
    assert origin["recipe_hash"] == before["recipe_hash"]
    assert origin["training_seconds"] == before["seconds"]["training"]
    assert str(first) not in (tmp_path / "a" / "assets.json").read_text()
    further = run(quick(init__run=tmp_path / "a"), tmp_path / "b")
    assert further["init"]["init"]["sha256"] == origin["sha256"]
    assert "init" not in json.loads((first / "result.json").read_text())


def test_it_starts_where_the_other_ended_and_not_at_fresh_weights(tmp_path: Path, first: Path) -> None:
    run(quick(init__run=first, optimiser__lr=1e-12), tmp_path / "still")
    before, after = load_file(first / "best.safetensors"), load_file(tmp_path / "still" / "best.safetensors")
    for name in before:
        torch.testing.assert_close(before[name], after[name], atol=1e-6, rtol=0)


def test_last_weights_and_the_optimiser_are_those_of_the_last_checkpoint(tmp_path: Path) -> None:
    # Eight steps and four more with the state of the first eight are twelve steps, but for the order of the records.
    run(quick(schedule__name="constant", schedule__warmup_steps=0), tmp_path / "one")
    kept = f"checkpoints/checkpoint-8/{'optimiser'}.safetensors"
    state = load_file(tmp_path / "one" / kept)
    changes = {"schedule__name": "constant", "schedule__warmup_steps": 0, "schedule__steps": 4}
    run(quick(init__run=tmp_path / "one", init__weights="last", init__optimiser="true", **changes), tmp_path / "with")
    run(quick(init__run=tmp_path / "one", init__weights="last", **changes), tmp_path / "without")
    steps = [key for key in state if key.endswith("/step")]
    assert steps
    ended = load_file(tmp_path / "with" / "checkpoints/checkpoint-4/optimiser.safetensors")
    assert all(float(ended[key]) == float(state[key]) + 4 == 12 for key in steps)
    fresh = load_file(tmp_path / "without" / "checkpoints/checkpoint-4/optimiser.safetensors")
    assert all(float(fresh[key]) == 4 for key in steps)
    assert weights(tmp_path / "with") != weights(tmp_path / "without")


@pytest.mark.parametrize("phase", ["initial", "."])
def test_killed_in_either_phase_it_ends_bit_for_bit_as_if_undisturbed(tmp_path: Path, phase: str) -> None:
    once, often = tmp_path / "once", tmp_path / "often"
    recipe = write(tmp_path, quick(schedule__steps=40, training__checkpoint_every=2, training__log_every=2))
    start(once, recipe, slow="").join()
    victim = start(often, recipe, slow=phase)
    killed_at = wait_for(often / phase / "metrics.jsonl", 6)
    assert victim.pid is not None
    os.killpg(victim.pid, signal.SIGKILL)
    victim.join()
    assert 6 <= killed_at < 40
    assert not (often / phase / "result.json").exists()
    assert (often / "initial" / "result.json").exists() == (phase == ".")
    start(often, recipe, slow="").join()
    for name in ("best.safetensors", "predictions_test.jsonl", "assets.json", "recipe.yaml"):
        assert (often / name).read_bytes() == (once / name).read_bytes(), name
        if name != "recipe.yaml":  # it names the folder of the features
            assert (often / "initial" / name).read_bytes() == (once / "initial" / name).read_bytes(), name


def start(out: Path, recipe: Path, slow: str) -> Any:
    here, there = SERVER.Pipe()
    process = SERVER.Process(target=killable.phases, args=(out, recipe, slow, there))
    process.start()
    assert here.recv()
    return process


def wait_for(log: Path, step: int) -> int:
    for _ in range(3000):
        lines = read_lines(log) if log.exists() else []
        if lines and lines[-1]["step"] >= step:
            return int(lines[-1]["step"])
        time.sleep(0.02)
    raise AssertionError(f"{log} never came to step {step}")


def test_changed_weights_under_an_unfinished_run_are_refused(tmp_path: Path) -> None:
    run(quick(), tmp_path / "one")
    recipe = quick(init__run=tmp_path / "one")
    run(recipe, tmp_path / "two")
    (tmp_path / "two" / "result.json").unlink()
    run(quick(seed=3), tmp_path / "other")
    (tmp_path / "one" / "best.safetensors").write_bytes(weights(tmp_path / "other"))
    with pytest.raises(CheckpointError, match=r"sha256 of what it began from: \w+ -> \w+; take another --out"):
        run(recipe, tmp_path / "two", resume=True)


def test_a_run_moved_elsewhere_is_still_what_it_began_from(tmp_path: Path) -> None:
    run(quick(), tmp_path / "one")
    run(quick(init__run=tmp_path / "one"), tmp_path / "two")
    (tmp_path / "two" / "result.json").unlink()
    (tmp_path / "one").rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match=r"init.run .*one: no such folder"):
        run(quick(init__run=tmp_path / "one"), tmp_path / "two", resume=True)
    run(quick(init__run=tmp_path / "moved"), tmp_path / "two", resume=True)


def test_an_unfinished_run_and_one_of_another_task_are_refused(tmp_path: Path, first: Path, mini_run: Path) -> None:
    run(quick(), tmp_path / "one")
    (tmp_path / "one" / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"init.run .*one: not finished"):
        run(quick(init__run=tmp_path / "one"), tmp_path / "two")
    with pytest.raises(CheckpointError, match="a run of the task vqa, from which the task toy takes nothing over"):
        run(quick(init__run=mini_run), tmp_path / "three")
    with pytest.raises(RecipeError, match="a run of the task vqa, from which the task toy takes nothing over"):
        run(quick(init__recipe="mini/vqa"), tmp_path / "four")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        run(quick(init__run=first, model__width=7), tmp_path / "five")
    with pytest.raises(RecipeError, match="trains nothing"):
        train(Recipe.from_file("mini/zero-shot-vqa", [f"init.run={first}"]), tmp_path / "six", quiet=True)


def test_another_optimiser_cannot_take_over_the_state(tmp_path: Path, first: Path) -> None:
    with pytest.raises(RecipeError, match=r"trained with adamax, whose state sgd cannot take over"):
        run(quick(init__run=first, init__optimiser="true", optimiser__name="sgd"), tmp_path / "a")


def test_checkpoints_that_are_gone_are_named(tmp_path: Path) -> None:
    run(quick(), tmp_path / "one")
    for path in sorted((tmp_path / "one" / "checkpoints").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoints are gone, and init.weights=last needs them"):
        run(quick(init__run=tmp_path / "one", init__weights="last"), tmp_path / "two")
    run(quick(init__run=tmp_path / "one"), tmp_path / "two")


def test_a_task_can_adopt_a_run_of_another(tmp_path: Path, first: Path) -> None:
    result = run(quick(task="toy_heir", init__run=first, optimiser__lr=1e-12), tmp_path / "heir")
    assert result["init"]["taken"] == ["0.bias", "0.weight"]
    mine, theirs = load_file(tmp_path / "heir" / "best.safetensors"), load_file(first / "best.safetensors")
    torch.testing.assert_close(mine["0.weight"], theirs["0.weight"], atol=1e-6, rtol=0)
    assert not torch.allclose(mine["3.weight"], theirs["3.weight"], atol=1e-3)
    assets = [
        json.loads((folder / "assets.json").read_text())["task"]["answers"] for folder in (tmp_path / "heir", first)
    ]
    assert assets[0] == assets[1][::-1]


def test_a_recipe_that_starts_from_itself_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text(quick(init__recipe=b).to_yaml())
    b.write_text(quick(init__recipe=a).to_yaml())
    with pytest.raises(RecipeError, match=r"starts from itself \(.*b.yaml <- .*a.yaml <- .*b.yaml\)"):
        run(Recipe.from_file(a), tmp_path / "out")
    own = tmp_path / "own.yaml"
    own.write_text(quick(init__recipe=own).to_yaml())
    with pytest.raises(RecipeError, match="starts from itself"):
        run(Recipe.from_file(own), tmp_path / "out")
    assert not (tmp_path / "out" / "initial").exists()
    with pytest.raises(RecipeError, match="no such file, and no packaged recipe"):
        run(quick(init__recipe="mini/vqaa"), tmp_path / "out")


def test_a_chain_of_three_is_trained_from_its_beginning(tmp_path: Path) -> None:
    a = write(tmp_path, quick(), "a.yaml")
    b = write(tmp_path, quick(init__recipe=a), "b.yaml")
    overrides = json.dumps(["schedule.steps=4"])
    run(quick(init__recipe=b, init__overrides=overrides), tmp_path / "c")
    for folder, steps in (("initial/initial", 8), ("initial", 4), (".", 8)):
        assert json.loads((tmp_path / "c" / folder / "result.json").read_text())["stopped"]["step"] == steps


def test_the_hash_knows_the_recipe_it_starts_from_but_not_the_folder() -> None:
    fresh = Recipe()
    assert "init" not in " ".join(fresh.differences({}))
    assert fresh.hash() != fresh.with_overrides("init.run=x").hash() == fresh.with_overrides("init.run=y").hash()
    named = fresh.with_overrides("init.recipe=mini/vqa")
    assert named.hash() == named.with_overrides("init.run=x").hash() != named.with_overrides("init.weights=last").hash()
    before = fresh.to_values()
    del before["init"]
    assert fresh.differences(before) == []
    with pytest.raises(RecipeError, match="neither a run nor a recipe"):
        fresh.with_overrides("init.optimiser=true")
    with pytest.raises(RecipeError, match=r"unknown key 'init.runn'; did you mean 'init.run'\?"):
        fresh.with_overrides("init.runn=x")
