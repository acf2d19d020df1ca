"""Two models over the same features: one store an encoder, and the gain with its paired interval."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import yaml

from clipvil.compare.matrix import compare
from clipvil.compare.plan import make_plan
from clipvil.compare.report import render
from clipvil.compare.results import Results
from clipvil.compare.suite import Suite
from clipvil.compare.table import render_table
from clipvil.compare.task_pairs import TaskPairs
from clipvil.metrics.statistics import paired_difference
from clipvil.training.run_files import read_run
from tests.compare.builder import build
from tests.compare.corpus import write_corpus, write_recipe

MCAN = {
    "name": "mcan", "preset": "mini", "word_size": 8, "hidden": 8, "heads": 2, "pool_hidden": 4, "joint_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pythia and MCAN, one encoder and the floor, two seeds."""
    folder = tmp_path_factory.mktemp("models")
    data = write_corpus(folder / "corpus")
    pythia = write_recipe(folder / "pythia.yaml")
    recipe = yaml.safe_load(pythia.read_text())
    (folder / "mcan.yaml").write_text(yaml.safe_dump({**recipe, "model": MCAN}))
    names = [str(folder / f"{name}.yaml") for name in ("pythia", "mcan")]
    call = {"encoders": ["mini/random"], "tasks": names, "data": data, "seeds": 2, "out": folder / "out", "quiet": True}
    return {"out": folder / "out", "call": call, "results": compare(**call)}


def test_features_are_extracted_once(world: dict[str, Any]) -> None:
    assert len(list((world["out"] / "features").iterdir())) == 1
    results: Results = world["results"]
    assert len(results.cells) == 8 and results.complete


def test_gain_is_that_of_the_statistics_module(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    assert results.task_pairs() == [("mcan", "pythia")]
    assert len(results.task_differences) == 4  # two rows, two splits
    means, images = {}, {}
    for task in ("mcan", "pythia"):
        paths = [world["out"] / c.path for c in results.cells if (c.encoder, c.task) == ("mini/random", task)]
        runs = [read_run(path).scores["shifted"] for path in paths]
        means[task] = {i: float(np.mean([run.per_record[i] for run in runs])) for i in runs[0].per_record}
        images = dict(runs[0].images)
    expected = paired_difference(means["mcan"], means["pythia"], images)
    found = results.task_difference("mcan", "pythia", "shifted", "mini/random")
    assert found is not None
    assert (found.value, found.low, found.high, found.p, found.n, found.seeds) == (
        expected.value,
        expected.low,
        expected.high,
        expected.p,
        expected.n,
        [0, 1],
    )


def test_table_and_report_print_it(world: dict[str, Any]) -> None:
    results = Results.load(world["out"] / "results.json")
    table, page = render_table(results), render(results)
    assert "mcan (mcan) minus pythia (pythia) on test (points, paired bootstrap over pictures):" in table
    assert "What another model gains" in page
    assert page.count("mcan (mcan) minus pythia (pythia)") == 2  # the headline and the table
    for encoder in ("mini/random", "question-only"):
        pair = results.task_difference("mcan", "pythia", "test", encoder)
        assert pair is not None
        assert f"  {encoder}: {pair.value:+.1f} [".replace("+0.0", "0.0") in table


def test_tasks_on_other_records_or_metrics_are_not_held_against_each_other(world: dict[str, Any]) -> None:
    call = world["call"]
    plan = make_plan(
        Suite.from_values({"encoders": call["encoders"], "tasks": call["tasks"], "data": call["data"]}), world["out"]
    )
    runs = {
        (c.encoder, c.task): {0: read_run(world["out"] / c.path)}
        for c in world["results"].cells
        if c.seed == 0 and c.encoder == "mini/random"
    }
    labels = ["mini/random"]
    assert len(TaskPairs().differences(plan.tasks, labels, runs)) == 2
    first, second = plan.tasks
    elsewhere = dataclasses.replace(second, datasets=dict(second.datasets))
    assert TaskPairs().differences([first, elsewhere], labels, runs) == []
    other_kind = dataclasses.replace(
        second, recipe=second.recipe.model_copy(update={"task": "zero_shot_vqa", "task_settings": {}})
    )
    assert TaskPairs().differences([first, other_kind], labels, runs) == []
    for scores in (run.scores for run in runs["mini/random", "mcan"].values()):
        scores["test"] = dataclasses.replace(scores["test"], mode="another")
    assert [pair.split for pair in TaskPairs().differences(plan.tasks, labels, runs)] == ["shifted"]
    runs["mini/random", "mcan"] = {1: runs["mini/random", "mcan"][0]}
    assert TaskPairs().differences(plan.tasks, labels, runs) == []


def test_a_task_says_what_it_is_held_against(world: dict[str, Any]) -> None:
    call = world["call"]
    runs = {
        (c.encoder, c.task): {0: read_run(world["out"] / c.path)}
        for c in world["results"].cells
        if c.seed == 0 and c.encoder == "mini/random"
    }
    first, second = call["tasks"]
    for minus, count in ((None, 2), ([first], 2), ([], 0)):
        tasks = [{"recipe": first}, {"recipe": second, "minus": minus}]
        suite = Suite.from_values({"encoders": call["encoders"], "tasks": tasks, "data": call["data"]})
        plan = make_plan(suite, world["out"])
        assert len(TaskPairs().differences(plan.tasks, ["mini/random"], runs)) == count


def test_the_packaged_suite_holds_both_models() -> None:
    assert [task.recipe for task in Suite.load("mini").tasks[:2]] == ["mini/vqa", "mini/vqa-mcan"]


def test_one_task_alone_says_nothing_of_gains() -> None:
    results = build()
    assert results.task_pairs() == []
    assert "What another model gains" not in render(results)
