"""Runs of pre-training, and runs that start from one: resumed, in two processes, from pictures, on few data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.errors import CheckpointError, DataError, RecipeError
from clipvil.training.inputs import share_of
from clipvil.training.metric_log import read_lines
from clipvil.training.recipe import Recipe
from clipvil.training.run import evaluate, train
from tests.tasks.features import colour_questions
from tests.training import pretraining_runs
from tests.training.launching import launch
from tests.training.pretraining_runs import small, starts_from


@pytest.fixture(scope="module")
def world(mini_run: Path) -> Path:
    """The folder of a small world; its features are in `run/features`."""
    return mini_run.parent


def stored(world: Path) -> str:
    return f"features.store={world / 'run' / 'features'}"


@pytest.fixture(scope="module")
def pretrained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    train(small("mini/pretrain", world, stored(world)), out, quiet=True)
    return out


def test_it_is_judged_by_objective(pretrained: Path, world: Path) -> None:
    result = json.loads((pretrained / "result.json").read_text())
    assert result["metric"] == "pretraining_accuracy" and result["scores"].keys() == {"val"}
    found = result["scores"]["val"]["breakdowns"]["objective"]
    assert found.keys() == {"mlm", "itm", "qa"}
    assert result["scores"]["val"]["overall"]["value"] == pytest.approx(sum(s["value"] for s in found.values()) / 3)
    lines = [line for line in read_lines(pretrained / "metrics.jsonl") if line["event"] == "train"]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert all(
        line["loss"] == pytest.approx(line["loss_mlm"] + line["loss_itm"] + line["loss_qa"], rel=1e-5) for line in lines
    )
    # The draws of an evaluation are the same every time, whoever asks.
    again = evaluate(pretrained, "val", quiet=True)
    assert again is not None and again.overall.value == result["scores"]["val"]["overall"]["value"]


def test_ten_updates_are_five_and_five(pretrained: Path, world: Path, tmp_path: Path) -> None:
    # The rate of a linear schedule depends on its end, so both halves must know it.
    whole = small("mini/pretrain", world, stored(world), "schedule.name=constant")
    train(whole, tmp_path / "whole", quiet=True)
    half = small("mini/pretrain", world, stored(world), "schedule.name=constant", "schedule.steps=5")
    train(half, tmp_path / "half", quiet=True)
    train(whole, tmp_path / "half", resume=True, allow_recipe_change=True, quiet=True)
    one, other = (
        (tmp_path / name / "checkpoints" / "checkpoint-10" / "model.safetensors").read_bytes()
        for name in ("whole", "half")
    )
    assert one == other


def test_two_processes_have_the_curve_of_one(world: Path, tmp_path: Path) -> None:
    parts = [stored(world), "training.micro_batch=6"]
    plans = {}
    for name in ("one", "two"):
        plans[name] = tmp_path / f"{name}.json"
        plans[name].write_text(json.dumps([[str(world), str(tmp_path / name), parts]]))
    launch(pretraining_runs.__name__, plans["two"], processes=2)
    pretraining_runs.main(plans["one"])
    keys = ("loss", "loss_mlm", "loss_itm", "loss_qa", "grad_norm")
    one, two = (
        [
            [line[key] for key in keys]
            for line in read_lines(tmp_path / name / "metrics.jsonl")
            if line["event"] == "train"
        ]
        for name in ("one", "two")
    )
    assert len(one) == 10
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-4, abs=1e-5)
    scores = [json.loads((tmp_path / name / "result.json").read_text())["scores"]["val"]["overall"] for name in plans]
    assert scores[0]["n"] == scores[1]["n"]
    assert scores[1]["value"] == pytest.approx(scores[0]["value"], abs=0.5)


@pytest.mark.parametrize("task", ["vqa", "entailment", "gqa"])
def test_fine_tuning_trains_what_it_starts_from_first(task: str, world: Path, tmp_path: Path) -> None:
    recipe = small(f"mini/{task}-clip-vil-p", world, stored(world), *starts_from(world, "mini/pretrain"))
    found = train(recipe, tmp_path / "run", quiet=True)
    init = found.result["init"]
    assert init["task"] == "pretraining" and init["taken"][0] == "body"
    assert ("answers" in init) == (task != "entailment")
    if task != "entailment":
        assert 0 < init["answers"]["found"] < init["answers"]["of"]  # `<unk>` at least is not among them
    inside = json.loads((tmp_path / "run" / "initial" / "result.json").read_text())
    assert inside["data"]["train"]["name"] == "mini_lxmert"
    assert not (tmp_path / "run" / "initial" / "features").exists()
    vocabularies = [
        json.loads((tmp_path / "run" / name / "assets.json").read_text())["task"]["words"] for name in (".", "initial")
    ]
    assert vocabularies[0] == vocabularies[1]
    assert evaluate(tmp_path / "run", "test", quiet=True) is not None


def test_the_second_stage_goes_on_from_the_first(world: Path, tmp_path: Path) -> None:
    recipe = small("mini/pretrain", world, stored(world), *starts_from(world, "mini/pretrain-no-qa"))
    init = train(recipe, tmp_path / "run", quiet=True).result["init"]
    assert init["taken"] == ["body", "mlm", "itm"] and init["fresh"] == ["answers"]


@pytest.mark.parametrize("trained", [True, False])
def test_from_pictures_with_the_encoder_in_the_model(trained: bool, world: Path, tmp_path: Path) -> None:
    pictures = [
        "features.source=pictures", "encoder.resize=square:32", f"trunk.trained={str(trained).lower()}",
        "pictures.sentences=4", "training.micro_batch=12", "schedule.steps=4", "training.evaluate_every=4",
    ]  # fmt: skip
    train(small("mini/pretrain", world, *pictures), tmp_path / "first", quiet=True)
    recipe = small("mini/vqa-clip-vil-p", world, *pictures, "init.recipe=null", f"init.run={tmp_path / 'first'}")
    init = train(recipe, tmp_path / "second", quiet=True).result["init"]
    assert init["taken"] == ["body", "answers"]
    stores = [f"init.run={tmp_path / 'first'}", "init.recipe=null", "encoder.resize=square:32"]
    recipe = small("mini/vqa-clip-vil-p", world, *stores, "schedule.steps=2")
    if trained:
        with pytest.raises(CheckpointError, match="trained its encoder along"):
            train(recipe, tmp_path / "third", quiet=True)
    else:
        assert train(recipe, tmp_path / "third", quiet=True).result["init"]["taken"] == ["body", "answers"]


def test_another_encoder_than_that_of_pre_training_is_refused(pretrained: Path, world: Path, tmp_path: Path) -> None:
    overrides = ["init.recipe=null", f"init.run={pretrained}", "encoder.name=mini/annotated"]
    with pytest.raises(CheckpointError, match="another version; its answers would mean nothing"):
        train(small("mini/vqa-clip-vil-p", world, *overrides), tmp_path / "run", quiet=True)


def test_words_alone_cannot_start_from_word_pieces(pretrained: Path, world: Path, tmp_path: Path) -> None:
    overrides = [stored(world), "init.recipe=null", f"init.run={pretrained}", "task_settings.tokenizer=words"]
    with pytest.raises(RecipeError, match="tokenizer to wordpiece"):
        train(small("mini/vqa-clip-vil-p", world, *overrides), tmp_path / "run", quiet=True)


def test_a_share_of_the_pictures() -> None:
    records = colour_questions(400)
    half, tenth = share_of(records, 0.5), share_of(records, 0.1)
    assert set(tenth) < set(half) < set(records) and share_of(records, 1.0) is records
    assert 60 < len({r.image_id for r in half}) < 140 and 5 < len({r.image_id for r in tenth}) < 40
    chosen = {r.image_id for r in half}
    assert [r for r in records if r.image_id in chosen] == list(half)  # all that is asked of a picture, in order
    # Whatever else there is, the same pictures are chosen.
    assert {r.image_id for r in share_of(records[100:], 0.5)} <= chosen
    with pytest.raises(DataError, match="leaves none of the 400"):
        share_of(records, 1e-9)


def test_a_share_counts_in_the_recipe_and_the_result(world: Path, tmp_path: Path) -> None:
    recipe = small(
        "mini/vqa-clip-vil-p", world, stored(world), "init.recipe=null", "training.share=0.5", "schedule.steps=2"
    )
    data = train(recipe, tmp_path / "run", quiet=True).result["data"]
    assert 0 < data["train"]["records"] < 30 * 8
    assert data["train"]["records"] % 8 == 0 and data["val"]["records"] == 40
    assert recipe.hash() != recipe.with_overrides("training.share=1").hash()
    assert Recipe().hash() == Recipe().with_overrides("training.share=1.0").hash()
