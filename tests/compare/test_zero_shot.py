"""A comparison in which one task is trained and another is not: cells, rows, differences, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from clipvil.compare.beside import side_by_side
from clipvil.compare.matrix import compare
from clipvil.compare.report import render
from clipvil.compare.results import Results
from clipvil.compare.table import render_table
from clipvil.errors import UsageError
from clipvil.mini import weights_folder
from clipvil.training.run_files import read_run
from tests.compare.corpus import write_corpus, write_recipe

ENCODERS = [
    "mini/contrastive",
    {"name": f"open_clip/local-dir:{weights_folder('annotated')}", "label": "untrained text"},
    {"name": "timm/test_vit:random", "label": "visual alone"},
]


def write_zero_shot(path: Path) -> Path:
    settings = {"prompt": "labelled", "candidates": "form"}
    recipe = {"task": "zero_shot_vqa", "task_settings": settings, "encoder": {"resize": "square:32"}}
    extra = {"features": {"precision": "fp32", "workers": 0}, "training": {"evaluate_batch_size": 4}}
    path.write_text(yaml.safe_dump({**recipe, **extra}))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("world")
    data = write_corpus(folder / "corpus")
    tasks = [str(write_recipe(folder / "trained.yaml")), str(write_zero_shot(folder / "zero.yaml"))]
    call = {"encoders": ENCODERS, "tasks": tasks, "data": data, "seeds": 2, "out": folder / "out", "quiet": True}
    return {"call": call, "out": folder / "out", "results": compare(**call)}


def test_a_task_without_training_runs_once_and_only_where_it_can(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    cells = {(cell.task, cell.encoder, cell.seed): cell.status for cell in results.cells}
    zero = {key[1:] for key in cells if key[0] == "zero"}
    assert zero == {("mini/contrastive", 0), ("untrained text", 0)}
    assert len(cells) == 4 * 2 + 2 and set(cells.values()) == {"done"}
    assert any("visual alone has no row on zero" in sentence for sentence in results.protocol)
    assert any("zero: nothing is trained" in sentence for sentence in results.protocol)


def test_each_picture_was_encoded_once_for_both_tasks(world: dict[str, Any]) -> None:
    assert len(list((world["out"] / "features").iterdir())) == 3


def test_zero_shot_rows_and_their_paired_differences_are_like_any_other(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    row = results.row("zero", "test", "mini/contrastive")
    assert row is not None and row.training_seconds is None
    cell = next(c for c in results.cells if (c.task, c.encoder) == ("zero", "mini/contrastive"))
    assert read_run(world["out"] / cell.path).scores["test"].overall.value == row.per_seed[0].value == row.mean.value
    pair = results.difference("zero", "test", "mini/contrastive", "untrained text")
    assert pair is not None and pair.n == 8


def test_trained_rows_zero_shot_rows_and_baselines_stand_in_one_table(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    (group,) = side_by_side(results)
    titles = [way.title for way in group.ways]
    assert {task.name for task in group.tasks} == {"trained", "zero"} and group.splits == ("test", "shifted")
    assert {"trained, question-only", "trained, visual alone", "zero, mini/contrastive"} < set(titles)
    assert {"chance over all answers", "majority answer overall", "majority by question type"} < set(titles)
    assert len(titles) == len(set(titles)) == 4 + 2 + 5
    values = [way.scores["test"].value for way in group.ways]
    assert values == sorted(values, reverse=True)
    page, table = render(results), render_table(results)
    for title in titles:
        assert title in page and title in table
    assert "Side by side" in page and max(map(len, table.splitlines())) <= 120


def test_the_same_call_again_runs_nothing(world: dict[str, Any]) -> None:
    paths = sorted(world["out"].glob("cells/*/*/*/result.json"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    again = compare(**world["call"])
    assert {path: path.stat().st_mtime_ns for path in paths} == before
    assert again.baselines == world["results"].baselines and again.rows == world["results"].rows


def test_a_suite_of_which_nothing_can_run_says_why(world: dict[str, Any], tmp_path: Path) -> None:
    call = {**world["call"], "encoders": ["timm/test_vit:random"], "out": tmp_path / "out"}
    with pytest.raises(UsageError, match="no text side"):
        compare(**{**call, "tasks": call["tasks"][1:]})


def test_zero_shot_alone_has_no_question_only_row(world: dict[str, Any], tmp_path: Path) -> None:
    call = {**world["call"], "encoders": ["mini/contrastive"], "out": tmp_path / "out", "seeds": 1}
    results = compare(**{**call, "tasks": call["tasks"][1:]})
    assert [encoder.label for encoder in results.encoders] == ["mini/contrastive"]
    assert "chance by answer type" in render(results)
    assert "mini/contrastive scores" in render(results)
