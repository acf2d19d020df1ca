"""Cells that start from another run: trained once, shared, resumed, and taken down by one that fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from clipvil.compare.matrix import compare
from clipvil.compare.order import Order
from clipvil.compare.plan import Plan, _with_overrides, make_plan
from clipvil.compare.report import render
from clipvil.compare.results import Results
from clipvil.compare.suite import Suite, merge
from clipvil.errors import CheckpointError, RecipeError
from clipvil.training.checkpoint import Checkpoints, sha256
from clipvil.training.initial import initial_recipe
from clipvil.training.recipe import Recipe
from clipvil.training.run import train
from tests.compare.corpus import write_corpus, write_recipe

INITIAL = "initial/first-"


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """`first`, and `second` and `third`, which start from it with other learning rates."""
    folder = tmp_path_factory.mktemp("recipes")
    data = write_corpus(folder / "corpus")
    first = write_recipe(folder / "first.yaml")
    values = yaml.safe_load(first.read_text())
    for name, lr in (("second", 0.0005), ("third", 0.002)):
        further = {**values, "init": {"recipe": str(first)}, "optimiser": {"lr": lr}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(further))
    names = {name: str(folder / f"{name}.yaml") for name in ("first", "second", "third")}
    return {"names": names, "call": {"encoders": ["mini/random"], "data": data, "quiet": True}}


@pytest.fixture(scope="module")
def world(recipes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two tasks that start from a third, which is not one of them; one encoder and the floor, two seeds."""
    out = tmp_path_factory.mktemp("out")
    tasks = [recipes["names"][name] for name in ("second", "third")]
    call = {**recipes["call"], "tasks": tasks, "seeds": 2, "out": out}
    return {"out": out, "call": call, "results": compare(**call)}


def plan_of(recipes: dict[str, Any], tasks: list[str], out: Path, **changes: Any) -> Plan:
    call = {key: value for key, value in recipes["call"].items() if key != "quiet"}
    return make_plan(merge(None, tasks=[recipes["names"][name] for name in tasks], **call, **changes), out)


def test_a_run_to_start_from_is_trained_once_an_encoder_and_seed(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    assert results.complete and len(results.cells) == 8
    assert {(run.encoder, run.seed, run.status) for run in results.initial_runs} == {
        (encoder, seed, "done") for encoder in ("mini/random", "question-only") for seed in (0, 1)
    }
    assert all(run.path.startswith(INITIAL) and run.seconds for run in results.initial_runs)
    for cell in results.cells:
        start = next(run for run in results.initial_runs if run.path == cell.starts_from)
        assert (start.encoder, start.seed) == (cell.encoder, cell.seed)
        assert cell.seconds_before == start.training_seconds
        said = json.loads((world["out"] / cell.path / "result.json").read_text())["init"]
        best = (world["out"] / start.path / "best.safetensors").read_bytes()
        assert said["task"] == "vqa" and len(said["sha256"]) == 64 and best
    assert not list(world["out"].glob("**/checkpoints")) and not list(world["out"].glob("cells/**/initial"))
    assert all(row.seconds_before > 0 and row.training_seconds for row in results.rows)


def test_it_is_the_run_that_training_alone_gives(
    world: dict[str, Any], recipes: dict[str, Any], tmp_path: Path
) -> None:
    plan = plan_of(recipes, ["second"], world["out"])
    cell = plan.cells[0]
    alone = cell.recipe.model_copy(update={"init": cell.recipe.init.model_copy(update={"run": None})})
    train(alone, tmp_path / "alone", datasets=cell.task.datasets, quiet=True)
    for mine, theirs in ((".", cell.path), ("initial", cell.starts()[0].path)):
        found = (tmp_path / "alone" / mine / "best.safetensors").read_bytes()
        assert found == (world["out"] / theirs / "best.safetensors").read_bytes()


def test_the_report_says_what_starts_from_what(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    said = [line for line in results.protocol if line.startswith("second: every run starts")]
    assert len(said) == 1 and "trained here once for all that start from it, with the same encoder, seed" in said[0]
    page = render(results)
    assert "second: every run starts from the weights chosen on val of a run of" in page
    assert "of it before" in page


def test_a_second_call_trains_nothing(world: dict[str, Any]) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in world["out"].rglob("result.json")}
    again = compare(**world["call"])
    assert {path: path.stat().st_mtime_ns for path in world["out"].rglob("result.json")} == stamps
    assert [c.seconds for c in again.initial_runs] == [c.seconds for c in world["results"].initial_runs]


def test_a_cell_that_is_the_very_run_is_taken_for_it(recipes: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    tasks = [recipes["names"][name] for name in ("second", "first")]
    results = compare(**{**recipes["call"], "tasks": tasks, "out": out, "question_only": False})
    assert results.complete and not results.initial_runs and not (out / "initial").exists()
    second, first = results.cells
    assert second.starts_from == first.path
    assert any("of the run of first with the same" in line for line in results.protocol)
    assert results.task_pairs() == [("first", "second")]


def test_another_recipe_under_the_name_is_another_run(recipes: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(recipes, ["first", "second"], tmp_path)
    assert not plan.initials and plan.cells[1].start is plan.cells[0]
    # What is changed in every recipe is changed in the one to start from too.
    changed = plan_of(recipes, ["first", "second"], tmp_path, overrides=["schedule.steps=4"])
    assert not changed.initials
    assert changed.cells[1].key() != plan.cells[1].key()
    assert changed.cells[1].starts()[0].recipe.schedule.steps == 4
    apart = plan_of(recipes, ["second"], tmp_path, overrides=["init.overrides=[schedule.steps=4]"])
    assert [run.recipe.schedule.steps for run in apart.initials] == [4, 4]
    assert apart.initials[0].path != plan_of(recipes, ["second"], tmp_path).initials[0].path


def test_a_run_that_fails_fails_its_cells_with_its_reason(recipes: dict[str, Any], tmp_path: Path) -> None:
    values = yaml.safe_load(Path(recipes["names"]["first"]).read_text())
    values |= {"optimiser": {"lr": 1e30, "name": "sgd"}, "init": {}}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(values))
    good = yaml.safe_load(Path(recipes["names"]["first"]).read_text())
    (tmp_path / "heir.yaml").write_text(yaml.safe_dump({**good, "init": {"recipe": str(tmp_path / "bad.yaml")}}))
    for jobs in (1, 2):
        call = {**recipes["call"], "out": tmp_path / str(jobs), "question_only": False, "jobs": jobs}
        results = compare(**{**call, "tasks": [str(tmp_path / "heir.yaml"), recipes["names"]["first"]]})
        (heir,) = [cell for cell in results.cells if cell.task == "heir"]
        (initial,) = results.initial_runs
        assert initial.status == heir.status == "failed" and initial.error
        assert heir.error == f"the run that it starts from failed ({initial.path}): {initial.error}"
        assert next(cell for cell in results.cells if cell.task == "first").status == "done"
        assert results.failures == [initial, heir]


def test_side_by_side_a_cell_waits_for_what_it_starts_from(world: dict[str, Any], tmp_path: Path) -> None:
    results = compare(**{**world["call"], "out": tmp_path, "jobs": 2, "seeds": 1})
    assert results.complete and len(results.initial_runs) == 2


def test_checkpoints_stay_for_those_that_start_from_them(recipes: dict[str, Any], tmp_path: Path) -> None:
    overrides = ["init.optimiser=true", "init.weights=last"]
    tasks = [recipes["names"]["second"]]
    call = {**recipes["call"], "tasks": tasks, "out": tmp_path, "question_only": False, "overrides": overrides}
    results = compare(**call)
    assert results.complete
    assert (tmp_path / results.initial_runs[0].path / "checkpoints").exists()
    assert not (tmp_path / results.cells[0].path / "checkpoints").exists()
    assert any("the last weights and the optimiser's state of a run" in line for line in results.protocol)


def test_all_that_is_taken_over_of_a_run_that_was_there_tells_cells_apart(
    recipes: dict[str, Any], tmp_path: Path
) -> None:
    plan = plan_of(recipes, ["first"], tmp_path / "out", question_only=False)
    run = tmp_path / "run"
    train(plan.cells[0].recipe, run, datasets=plan.cells[0].task.datasets, quiet=True)

    def key(*overrides: str) -> str:
        asked = [f"init.run={run}", *overrides]
        return plan_of(recipes, ["first"], tmp_path / "out", question_only=False, overrides=asked).cells[0].key()

    asked = ("init.weights=last", "init.optimiser=true")
    best, last, both = key(), key(asked[0]), key(*asked)
    # Another run under the same name, whose best weights happen to be the same: what was taken over was not.
    newest = Checkpoints(run / "checkpoints").steps()[-1]
    for name, kept in (("optimiser.safetensors", last), ("model.safetensors", best)):
        rewrite(run / "checkpoints" / f"checkpoint-{newest}", name)
        assert key(*asked) != both
        assert kept == (key(asked[0]) if kept is last else key())
        both = key(*asked)
    assert key(asked[0]) != last
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="its checkpoints are gone"):
        key(*asked)
    assert key() == best


def rewrite(checkpoint: Path, name: str) -> None:
    """Other tensors in a checkpoint, and the checksum that belongs to them."""
    tensors = load_file(checkpoint / name)
    save_file({key: tensor + 1 for key, tensor in tensors.items()}, checkpoint / name)
    state = json.loads((checkpoint / "state.json").read_text())
    state["sha256"][name] = sha256(checkpoint / name)
    (checkpoint / "state.json").write_text(json.dumps(state))


def test_a_finished_run_whose_checkpoints_are_needed_later_is_trained_again(
    recipes: dict[str, Any], tmp_path: Path
) -> None:
    names = recipes["names"]
    call = {**recipes["call"], "out": tmp_path, "question_only": False, "seeds": 1}
    (before,) = compare(**{**call, "tasks": [names["first"]]}).cells
    weights = (tmp_path / before.path / "best.safetensors").read_bytes()
    assert not (tmp_path / before.path / "checkpoints").exists()
    heir = yaml.safe_load(Path(names["second"]).read_text())
    heir["init"]["weights"] = "last"
    (tmp_path / "heir.yaml").write_text(yaml.safe_dump(heir))
    call["tasks"] = [names["first"], str(tmp_path / "heir.yaml")]
    results = compare(**call)
    assert results.complete and not results.failures
    assert (tmp_path / before.path / "best.safetensors").read_bytes() == weights
    assert (tmp_path / f"{before.path}.old-1" / "result.json").exists()
    # Once the heir is finished too, nothing needs them any more.
    shutil.rmtree(tmp_path / before.path / "checkpoints")
    assert compare(**call).complete and not (tmp_path / before.path / "checkpoints").exists()


def test_a_finished_cell_needs_no_run_to_start_from(recipes: dict[str, Any], tmp_path: Path) -> None:
    tasks = [recipes["names"]["second"]]
    call = {**recipes["call"], "tasks": tasks, "out": tmp_path, "question_only": False}
    compare(**call)
    shutil.rmtree(tmp_path / "initial")
    assert compare(**call).complete and not (tmp_path / "initial").exists()


def test_a_chain_of_runs_is_trained_on_the_corpus_of_the_suite() -> None:
    suite = Suite.load("mini-backtranslation")
    assert suite.data is not None
    chain = [_with_overrides(Recipe.from_file("mini/navigation-backtranslation"), suite)]
    while (before := initial_recipe(chain[-1])) is not None:
        chain.append(before)
    assert [recipe.task for recipe in chain] == ["navigation", "navigation_speaker", "navigation"]
    assert [recipe.data for recipe in chain[1:]] == [suite.data, suite.data]


def test_a_corpus_of_another_format_stays_with_the_recipe_to_start_from() -> None:
    data = {"format": "custom", "questions": "mine.csv"}
    suite = Suite.from_values({"encoders": ["mini/random"], "tasks": ["mini/vqa-clip-vil-p"], "data": data})
    before = initial_recipe(_with_overrides(Recipe.from_file("mini/vqa-clip-vil-p"), suite))
    assert before is not None and before.data == Recipe.from_file("mini/pretrain").data


def test_what_cannot_start_is_refused_before_anything_is_computed(recipes: dict[str, Any], tmp_path: Path) -> None:
    nothing = ["task=zero_shot_vqa", "init.recipe=mini/vqa", "model={}", "task_settings={}"]
    with pytest.raises(RecipeError, match="trains nothing"):
        plan_of({**recipes, "call": {**recipes["call"], "encoders": ["mini/contrastive"]}}, ["first"], tmp_path,
                overrides=nothing)  # fmt: skip


def test_the_order_holds_back_what_waits_and_gives_up_what_is_lost(recipes: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(recipes, ["second", "third", "first"], tmp_path, question_only=False)
    second, third, first = plan.cells
    order = Order(plan.cells)
    assert order.next() is first and order.next() is None and not order.ended
    order.end(first, None)
    assert order.next() is second and order.next() is third and order.ended
    order = Order(plan.cells, {first.path: "damaged"})
    assert [run for run, _ in order.lost()] == [second, third] and order.next() is first
