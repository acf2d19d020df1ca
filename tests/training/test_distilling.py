from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from clipvil.errors import CheckpointError, ClipvilError, RecipeError
from clipvil.training.metric_log import read_lines
from clipvil.training.recipe import Recipe
from clipvil.training.run import train
from tests.distillation.world import Pictures, splits

TIMES = ("seconds", "records_per_second")


def recipe_of(**changes: Any) -> Recipe:
    values = {
        "task": "visual_entailment",
        "task_settings": {"tokenizer": "wordpiece"},
        "encoder": {"name": "mini/contrastive"},
        "model": {"name": "clip_vil_p", "preset": "mini", "dropout": 0.1},
        "optimiser": {"lr": 0.001},
        "schedule": {"steps": 20},
        "training": {"batch_size": 6, "evaluate_every": 10, "log_every": 5, "threads": 1, "grad_clip": 1.0},
        "features": {"dtype": "float32"},
        "distillation": {"weight": 1.0},
    }
    return Recipe.from_values(values, [f"{key.replace('__', '.')}={value}" for key, value in changes.items()])


def run(out: Path, recipe: Recipe, **options: Any) -> dict[str, torch.Tensor]:
    train(recipe, out, features=Pictures(30), datasets=splits(), quiet=True, **options)
    return load_file(out / "checkpoints" / "checkpoint-20" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def log(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_lines(out / "metrics.jsonl")]


@pytest.mark.parametrize(
    "changes", [{}, {"distillation__adaptive_steps": 6, "distillation__selection__text": "random"}]
)
def test_twenty_steps_are_ten_and_ten_more_after_a_stop(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(**changes)
    whole = run(tmp_path / "whole", recipe)
    from clipvil.training.loop import Loop

    step = Loop._step

    def stops(self: Loop, parts: Any) -> None:
        if self.position.step == 13:
            raise ClipvilError("killed")
        step(self, parts)

    monkeypatch.setattr(Loop, "_step", stops)
    with pytest.raises(ClipvilError, match="killed"):
        run(tmp_path / "stopped", recipe)
    monkeypatch.setattr(Loop, "_step", step)
    assert same(run(tmp_path / "stopped", recipe, resume=True), whole)
    for name in ("heads.safetensors", "heads_optimiser.safetensors", "optimiser.safetensors"):
        files = [tmp_path / one / "checkpoints" / "checkpoint-20" / name for one in ("whole", "stopped")]
        assert same(load_file(files[0]), load_file(files[1]))
    assert log(tmp_path / "whole") == log(tmp_path / "stopped")


def test_a_run_of_weight_zero_is_plain_fine_tuning_and_a_distilled_one_is_not(tmp_path: Path) -> None:
    plain = Recipe.from_values({k: v for k, v in recipe_of().to_values().items() if k != "distillation"})
    off = recipe_of(distillation__weight=0, distillation__confidence="margin")
    assert plain.hash() == off.hash() != recipe_of().hash()
    one, two = run(tmp_path / "plain", plain), run(tmp_path / "off", off)
    assert same(one, two)
    assert not (tmp_path / "off" / "teachers").exists()
    distilled, shuffled = (
        run(tmp_path / "on", recipe_of()),
        run(tmp_path / "shuffled", recipe_of(distillation__shuffled="true")),
    )
    assert distilled.keys() == one.keys() and not same(distilled, one)
    assert not same(shuffled, distilled)
    assert {n: t.shape for n, t in load_file(tmp_path / "on" / "best.safetensors").items()} == {
        n: t.shape for n, t in load_file(tmp_path / "plain" / "best.safetensors").items()
    }


def test_the_result_says_who_taught_and_texts_are_read_once(tmp_path: Path) -> None:
    recipe = recipe_of(distillation__cache=tmp_path / "shared", distillation__confidence="alignment")
    run(tmp_path / "one", recipe)
    run(tmp_path / "two", recipe.with_overrides("seed=1"))
    told = [json.loads((tmp_path / name / "result.json").read_text())["distillation"] for name in ("one", "two")]
    # Five hypotheses and their distinct words, each once.
    assert told[0]["texts_read"] > 5 and told[1]["texts_read"] == 0
    assert told[0]["teachers"][0]["name"] == "mini/contrastive"
    line = next(line for line in log(tmp_path / "one") if line["event"] == "train")
    assert {"distil_pooled", "distil_text", "distil_vision", "distil_trust"} <= line.keys()


def test_other_teachers_are_no_way_to_go_on(tmp_path: Path) -> None:
    run(tmp_path, recipe_of())
    state = tmp_path / "checkpoints" / "checkpoint-20" / "state.json"
    content = json.loads(state.read_text())
    content["distillation"][0]["texts"] = "another"
    state.write_text(json.dumps(content))
    (tmp_path / "result.json").unlink()
    with pytest.raises(CheckpointError, match="other teachers"):
        run(tmp_path, recipe_of(), resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_settings__tokenizer": "words", "model__name": "pythia"}, "word pieces|wordpiece"),
        ({"model__keep_cells": 4}, "keep_cells"),
        ({"distillation__los": "l1"}, "distillation.loss"),
        ({"distillation__teachers": "[{encoder: mini/annotated}]"}, "no text side"),
        ({"distillation__teachers": "[{encoder: mini/contrastive, text_model: x}]"}, "either an encoder"),
    ],
)
def test_what_cannot_be_distilled_is_one_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises((RecipeError, ClipvilError), match=said):
        run(tmp_path / "run", recipe_of(**changes))
