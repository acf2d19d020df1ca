"""Captioning beside question answering: real captioners on a world of a few pictures, over one set of features."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipvil.compare.caption_gallery import PLACES, choose_captions
from clipvil.compare.kinds import kind_of
from clipvil.compare.matrix import compare
from clipvil.compare.plan import make_plan
from clipvil.compare.report import render
from clipvil.compare.results import Results
from clipvil.compare.suite import Suite, merge
from clipvil.compare.table import render_table
from clipvil.records import Caption, CaptionedImage
from clipvil.tasks.base import Prediction
from clipvil.training.run_files import read_run

SIZES = {"train": 24, "val": 10, "test": 14, "shifted": 12}
CAPTIONER = {
    "task": "captioning",
    "task_settings": {"min_word_count": 1},
    "model": {"name": "transformer_captioner", "preset": "mini"},
    "optimiser": {"name": "adam", "lr": 0.002},
    "schedule": {"name": "constant", "steps": 6},
    "training": {"batch_size": 8, "evaluate_every": 3, "threads": 1},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Questions, a captioner, the same trained on its own scores, and retrieval; two encoders and the floor."""
    folder = tmp_path_factory.mktemp("captioning")
    data = {"root": "{out}/data", "sizes": SIZES, "seed": 5}
    common = {"encoder": {"name": "mini/random", "resize": "square"}, "features": {"precision": "fp32", "workers": 0}}
    recipes = {
        "ask": {
            "task": "vqa",
            "model": {"name": "pythia", "preset": "mini"},
            "schedule": {"steps": 4},
            "training": {"batch_size": 16, "evaluate_every": 2, "threads": 1},
            "data": {"format": "mini"},
        },
        "write": {**CAPTIONER, "data": {"format": "mini_captions"}},
        "rewrite": {
            **CAPTIONER,
            "task_settings": {"min_word_count": 1, "objective": "self_critical"},
            "schedule": {"name": "constant", "steps": 2},
            "training": {"batch_size": 8, "evaluate_every": 1, "threads": 1},
            "init": {"recipe": str(folder / "write.yaml")},
            "data": {"format": "mini_captions"},
        },
        "retrieve": {"task": "retrieval_captioning", "data": {"format": "mini_captions"}},
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**recipe, **common}))
    suite = Suite.from_values(
        {"encoders": ["mini/random", {"name": "mini/contrastive", "label": "trained"}], "data": data,
         "tasks": [str(folder / f"{name}.yaml") for name in recipes]}
    )  # fmt: skip
    return {"out": folder / "out", "results": compare(suite, out=folder / "out", quiet=True)}


def test_questions_and_captions_share_pictures_and_features(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    assert results.complete, [cell.error for cell in results.failures]
    assert len(list((world["out"] / "features").iterdir())) == 2
    assert {task.name: (task.metric, task.baseline) for task in results.tasks} == {
        "ask": ("vqa_accuracy", False), "write": ("CIDEr-D", False), "rewrite": ("CIDEr-D", False),
        "retrieve": ("CIDEr-D", True),
    }  # fmt: skip
    assert results.task("write").sizes == SIZES  # pictures, each with several captions
    assert not results.initial_runs  # the cells of `write` are what `rewrite` starts from
    assert all(cell.starts_from.startswith("cells/write/") for cell in results.cells if cell.task == "rewrite")
    assert {row.encoder for row in results.rows if row.task == "retrieve"} == {"mini/random", "trained"}


def test_breakdowns_by_other_metrics_are_those_of_the_run(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    row = results.row("write", "test", "trained")
    cell = next(c for c in results.cells if (c.task, c.encoder) == ("write", "trained"))
    scores = read_run(world["out"] / cell.path).scores["test"]
    assert row is not None and row.mean.value == pytest.approx(scores.overall.value)
    assert list(row.breakdowns["metric"]) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"]
    for name, score in scores.breakdowns["metric"].items():
        found = row.breakdowns["metric"][name]
        assert (found.value, found.low, found.high) == pytest.approx((score.value, score.low, score.high))
    assert row.columns(kind_of("CIDEr-D")) == ["BLEU-4", "ROUGE-L"]


def test_what_is_worth_a_pair_is_paired(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    assert results.task_pairs() == [("rewrite", "write"), ("write", "retrieve"), ("rewrite", "retrieve")]
    pair = results.task_difference("write", "retrieve", "test", "trained")
    first, second = (results.row(task, "test", "trained") for task in ("write", "retrieve"))
    assert pair is not None and first is not None and second is not None
    assert pair.value == pytest.approx(first.mean.value - second.mean.value)
    assert results.task_difference("write", "retrieve", "test", "question-only") is None


def test_only_questions_have_chance_and_majority(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    assert {baseline.task for baseline in results.baselines} == {"ask"}


def test_every_task_stands_in_one_table_with_its_metric(world: dict[str, Any]) -> None:
    text = render_table(world["results"])
    lines = text.splitlines()
    overview = lines[: lines.index(next(line for line in lines if line.startswith("ask (")))]
    assert [line.split()[0] for line in overview[4:8]] == ["ask", "write", "rewrite", "retrieve"]
    assert "accuracy, %" in overview[4] and all("CIDEr-D" in line for line in overview[5:8])
    assert "write (CIDEr-D, 95 % intervals" in text
    assert "side by side: every way of captioning the same pictures" in text
    assert "rewrite minus write on test" in text
    assert re.search(r"\d\+\d+s", text) and "seconds of the run that it starts from + its own" in text
    assert max(map(len, lines)) <= 120


def test_the_report_speaks_of_pictures_and_captions(world: dict[str, Any]) -> None:
    page = render(world["results"])
    assert "which is a picture-blind language model" in page
    assert "What they wrote" in page and "What they answered" in page
    assert "on the same encoder" in page  # how far a captioner is from retrieval
    assert "rewrite: every run starts from the weights chosen on val of the run of write" in page
    section = page.split('<h2 class="task-name">write</h2>')[1].split('<h2 class="task-name">rewrite</h2>')[0]
    for word in ("question", "accuracy", "right:", "wrong:", "answer", "per cent"):
        assert word not in section.replace("question-only", ""), word
    assert "CIDEr-D times 100" in section and "test CIDEr-D" in section
    assert "retrieve trains nothing: it says a caption" in page


def test_the_gallery_shows_pictures_at_fixed_places_with_everybodys_captions(world: dict[str, Any]) -> None:
    results: Results = world["results"]
    groups = [g for g in results.gallery if g.task == "write" and g.split == "test"]
    assert [len(group.entries) for group in groups] == [len(PLACES)] * 2
    pictures = [entry.image_id for group in groups for entry in group.entries]
    assert len(set(pictures)) == len(pictures)
    entry = groups[0].entries[0]
    assert {answer.encoder for answer in entry.answers} == {"mini/random", "trained", "question-only"}
    assert entry.references and entry.thumbnail and entry.place.startswith("5th percentile: score ")
    lead = [next(a.score for a in e.answers if a.encoder == "mini/random") for e in groups[0].entries]
    assert lead == sorted(lead)


def answers(scores: dict[str, float]) -> dict[str, tuple[Prediction, float]]:
    return {i: (Prediction(i, i, f"said of {i}", 0.5), score) for i, score in scores.items()}


def drawn(**by_encoder: dict[str, float]) -> list[list[tuple[str, str]]]:
    records = {str(i): CaptionedImage(str(i), (Caption(str(i), "a star"),)) for i in range(200)}
    groups = choose_captions(
        "t", "test", {label: answers(scores) for label, scores in by_encoder.items()}, records,
        lead="a", floor="blind", thumbnail=lambda image_id: "",
    )  # fmt: skip
    return [[(entry.record_id, entry.place) for entry in group.entries] for group in groups]


def test_places_are_percentiles_of_the_lead_and_of_its_lead() -> None:
    own = {str(i): float(i) for i in range(101)}
    other = {str(i): 2.0 * abs(i - 50) for i in range(101)}
    own_order, ahead = drawn(a=own, b=other, blind=own)
    assert own_order == [(str(p), f"{p}th percentile: score {p:.1f}") for p in PLACES]
    assert [place.split(":")[0] for _, place in ahead] == [f"{p}th percentile" for p in PLACES]
    values = [own[i] - other[i] for i, _ in ahead]
    assert values == sorted(values) and ahead[0][1].endswith(" behind") and ahead[-1][1].endswith(" ahead")
    assert not {i for i, _ in own_order} & {i for i, _ in ahead}


def test_the_floor_decides_nothing_and_a_single_encoder_has_one_order() -> None:
    own = {str(i): float(i) for i in range(101)}
    assert drawn(a=own, blind=dict.fromkeys(own, 0.0)) == drawn(a=own)
    assert len(drawn(a=own)) == 1
    # Equal ones by id; fewer pictures than places are all shown, once.
    assert [i for i, _ in drawn(a=dict.fromkeys(own, 1.0))[0]] == [sorted(own)[p] for p in PLACES]
    assert sorted(i for i, _ in drawn(a={"7": 1.0, "8": 2.0})[0]) == ["7", "8"]


def test_scales_and_words_are_those_of_the_metric() -> None:
    assert kind_of("vqa_accuracy").unit == " %" and kind_of("vqa_accuracy").scale == (0.0, 100.0)
    assert kind_of("CIDEr-D").captions and kind_of("CIDEr-D").scale == (0.0, 1000.0)
    assert kind_of("nDTW").name("nDTW") == "nDTW" and not kind_of("nDTW").captions


def test_the_packaged_suites_read_one_world_and_share_what_they_start_from(tmp_path: Path) -> None:
    small = ["data.sizes={train: 6, val: 2, test: 2, shifted: 2}"]
    plan = make_plan(merge("mini", overrides=small, question_only=False), tmp_path)
    formats = {task.name: task.recipe.data["format"] for task in plan.tasks}
    assert formats["mini-vqa"] == "mini" and formats["mini-captioning"] == "mini_captions"
    assert {task.recipe.data["seed"] for task in plan.tasks} == {3}
    assert len({plan.store_path(cell) for cell in plan.cells}) == 3
    assert not plan.initials
    captioning = make_plan(merge("mini-captioning", overrides=small), tmp_path)
    assert captioning.tasks[0].datasets["test"].fingerprint == plan.tasks[4].datasets["test"].fingerprint
    # A task by its short name is that of the suite.
    (task,) = make_plan(merge("mini", tasks=["vqa"], overrides=small), tmp_path).tasks
    assert task.recipe.data["format"] == "mini"
