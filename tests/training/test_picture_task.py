"""Training from pictures, end to end in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from clipvil.encoders.base import EncoderSpec
from clipvil.encoders.registry import create_encoder
from clipvil.errors import ClipvilError, UsageError
from clipvil.models.picture_model import PictureModel
from clipvil.records import Question
from clipvil.training.metric_log import read_lines
from clipvil.training.picture_files import open_pictures
from clipvil.training.picture_task import PictureTask, task_of
from clipvil.training.predictor import load
from clipvil.training.recipe import Recipe
from clipvil.training.run import evaluate, train
from clipvil.training.run_files import read_predictions
from tests.training.conftest import mini_recipe
from tests.training.picture_world import picture_recipe, write_pictures

QUICK = {"schedule__steps": 10, "training__evaluate_every": 5}


def trained(out: Path, pictures: Path, **changes: Any) -> Path:
    train(picture_recipe(**{**QUICK, **changes}), out, datasets=write_pictures(pictures), quiet=True)
    return out


def weights(out: Path, step: int) -> tuple[bytes, ...]:
    folder = out / "checkpoints" / f"checkpoint-{step}"
    return tuple((folder / name).read_bytes() for name in ("model.safetensors", "optimiser.safetensors"))


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_lines(out / "metrics.jsonl") if line["event"] == "train"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return trained(folder / "run", folder / "pictures")


def test_the_encoder_is_trained_kept_and_judged_with(finished: Path) -> None:
    kept = load_file(finished / "best.safetensors")
    before = create_encoder("mini/contrastive").module.state_dict()
    moved = [name for name in before if not torch.equal(kept[f"trunk.module.{name}"], before[name])]
    assert any("conv" in name for name in moved)
    # Statistics and scales of BatchNorm are frozen, and attention pooling is no part of the grid.
    assert not any("bn" in name or "attnpool" in name or "running" in name for name in moved)
    result = json.loads((finished / "result.json").read_text())
    assert result["features"] == {
        "source": "pictures", "resize": "native:short=32,long=64", "pictures": 40, "shapes": 3, "failed": {},
    }  # fmt: skip
    lines = [line for line in read_lines(finished / "metrics.jsonl") if line["event"] == "train"]
    assert {(line["lr"], line["lr_trunk"]) for line in lines} == {(0.003, 0.01)}
    assert losses(finished)[-1] < losses(finished)[0]


def test_evaluation_anew_gives_the_same(finished: Path, tmp_path: Path) -> None:
    pictures = finished.parent / "pictures"
    scores = evaluate(finished, "val", datasets=write_pictures(pictures), out=tmp_path, quiet=True)
    assert scores is not None
    before = dict(read_predictions(finished, "val"))
    assert dict(read_predictions(tmp_path, "val")) == before


def test_ten_updates_are_five_and_five_bit_for_bit_with_two_optimisers(finished: Path, tmp_path: Path) -> None:
    splits, changes = write_pictures(tmp_path / "pictures"), {**QUICK, "trunk__optimiser__momentum": 0.9}
    once, twice = tmp_path / "once", tmp_path / "twice"
    train(picture_recipe(**changes), once, datasets=splits, quiet=True)
    stopped = picture_recipe(**changes, task_settings__explode_at=6 * 4)
    with pytest.raises(ClipvilError, match="at step 6"):
        train(stopped, twice, datasets=splits, quiet=True)
    train(picture_recipe(**changes), twice, datasets=splits, resume=True, allow_recipe_change=True, quiet=True)
    assert weights(twice, 10) == weights(once, 10)
    kept = load_file(once / "checkpoints" / "checkpoint-10" / "optimiser.safetensors")
    kinds = {(name.partition(".")[0], name.rpartition("/")[2]) for name in kept}
    assert {("trunk", "momentum_buffer"), ("head", "exp_avg"), ("head", "exp_avg_sq")} <= kinds


def test_vqa_trains_its_encoder_and_answers_about_a_new_picture(tmp_path: Path) -> None:
    more = ("features.source=pictures", "schedule.steps=4", "trunk.optimiser={name: sgd, lr: 0.01}")
    recipe = mini_recipe(tmp_path, *more)
    train(recipe, tmp_path / "run", quiet=True)
    picture = next((tmp_path / "data").rglob("*.png"), None) or next((tmp_path / "data").rglob("*.jpg"))
    answers = load(tmp_path / "run").answer(picture, "what colour is the star?")
    assert len(answers) == 5
    assert all(0 <= share <= 1 for _, share in answers)


def test_a_task_asks_for_pictures_by_asking_for_features(tmp_path: Path) -> None:
    recipe = picture_recipe()
    splits = write_pictures(tmp_path / "pictures")
    task = task_of(recipe)
    assert isinstance(task, PictureTask)
    task.prepare(splits["train"].records)
    source = open_pictures(recipe, splits, tmp_path, quiet=True)
    records = [splits["train"].records[i] for i in (1, 2, 4)]
    assert [record.image_id for record in records] == ["1", "1", "3"]
    batch = task.collate(records, source)
    assert not {"cells", "mask", "shapes"} & batch.keys()
    assert (batch["pixels"].shape[0], batch["pixel_rows"].tolist()) == (2, [0, 0, 1])
    assert "pixel_rows" not in task.collate([records[0], records[2]], source)


@pytest.mark.parametrize(
    ("behaviour", "padding", "visible"),
    [
        ("published", "behaviour", True),
        ("sane", "behaviour", False),
        ("published", "masked", False),
        ("sane", "visible", True),
    ],
)
def test_the_published_behaviour_shows_padding_unless_told_otherwise(
    behaviour: str, padding: str, visible: bool
) -> None:
    recipe = picture_recipe(pictures__padding=padding).with_overrides("task=vqa", "task_settings.tokenizer=wordpiece")
    task = task_of(recipe)
    task.prepare([Question("1", "1", "left or right?", ("left",)), Question("2", "1", "left?", ("yes",))])
    chosen = {"name": "clip_vil_p", "preset": "mini", "behaviour": behaviour}
    encoder = create_encoder("mini/contrastive")
    spec = EncoderSpec(encoder.name, encoder.fingerprint(), encoder.grid_channels)
    assert isinstance(model := task.build(chosen, spec), PictureModel)
    assert model.visible_padding is visible


def test_what_cannot_be_trained_from_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trains nothing"):
        task_of(Recipe.from_values({"task": "zero_shot_vqa", "features": {"source": "pictures"}}))


def test_recipes_from_before_are_what_they_were() -> None:
    plain = Recipe()
    assert plain.with_overrides("trunk.checkpointing=true").hash() == plain.hash()
    pictures = plain.with_overrides("features.source=pictures")
    assert pictures.hash() != plain.hash()
    assert pictures.with_overrides("trunk.batch_norm=sync").hash() != pictures.hash()
    assert pictures.with_overrides("pictures.keep=disk").hash() == pictures.hash()
    old = plain.to_values()
    for section in ("trunk", "pictures"):
        del old[section]
    del old["features"]["source"], old["optimiser"]["no_decay"], old["training"]["micro_batch"]
    assert plain.differences(old) == []
