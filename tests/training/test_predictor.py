from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipvil.errors import CheckpointError, ClipvilError, ImageError, UsageError
from clipvil.training.inputs import load_datasets
from clipvil.training.predictor import Predictor, load
from clipvil.training.recipe import Recipe
from clipvil.training.run import train
from clipvil.training.run_files import read_predictions
from tests.training.conftest import mini_recipe


@pytest.fixture(scope="module")
def predictor(mini_run: Path) -> Predictor:
    return load(mini_run)


def test_answers_agree_with_the_evaluation_of_the_same_pictures(mini_run: Path, predictor: Predictor) -> None:
    data = load_datasets(Recipe.from_file(mini_run / "recipe.yaml").data, ("test",))["test"]
    found = {prediction.record_id: prediction for prediction, _ in read_predictions(mini_run, "test")}
    for record in data.records[:6]:
        answers = predictor.answer(data.pictures[record.image_id], record.question)
        expected = found[record.question_id].top
        assert [answer for answer, _ in answers] == [answer for answer, _ in expected]
        assert [share for _, share in answers] == pytest.approx([share for _, share in expected], abs=2e-3)


def test_a_picture_may_be_a_path_an_image_or_an_array(mini_run: Path, predictor: Predictor) -> None:
    path = next((mini_run.parent / "data" / "images" / "test").iterdir())
    image = Image.open(path).convert("RGB")
    question = "what color is the circle?"
    answers = predictor.answer(path, question, top=3)
    assert len(answers) == 3
    assert all(0 <= share <= 1 for _, share in answers)
    assert [share for _, share in answers] == sorted((share for _, share in answers), reverse=True)
    assert predictor.answer(str(path), question, top=3) == answers
    assert predictor.answer(image, question, top=3) == answers
    assert predictor.answer(np.asarray(image), question, top=3) == answers


def test_what_is_no_picture_or_no_question_is_refused_in_one_line(tmp_path: Path, predictor: Predictor) -> None:
    text = tmp_path / "a.jpg"
    text.write_text("not a picture")
    grey = np.zeros((32, 32), np.uint8)
    for picture, kind in (
        (tmp_path / "no.png", ImageError),
        (text, ImageError),
        (tmp_path, ImageError),
        (np.zeros((8, 8, 3), np.float32), UsageError),
        (np.zeros((8, 8, 4), np.uint8), UsageError),
    ):
        with pytest.raises(kind) as caught:
            predictor.answer(picture, "what is it?")
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="question is empty"):
        predictor.answer(grey, "  ")
    assert predictor.answer(grey, "what is it?")


def test_another_encoder_under_the_same_name_is_refused(mini_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(mini_run, copy, ignore=shutil.ignore_patterns("features", "checkpoints"))
    result = json.loads((copy / "result.json").read_text())
    result["encoder"]["fingerprint"] = "f" * 16
    (copy / "result.json").write_text(json.dumps(result))
    with pytest.raises(CheckpointError, match=r"mini/contrastive of fingerprint ffffffffffffffff"):
        load(copy)


def test_an_unfinished_run_is_refused(mini_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(mini_run, copy, ignore=shutil.ignore_patterns("features", "checkpoints", "best.safetensors"))
    with pytest.raises(CheckpointError, match=r"best\.safetensors: no such file"):
        load(copy)
    (copy / "result.json").unlink()
    with pytest.raises(ClipvilError, match="finish"):
        load(copy)


def test_a_question_only_run_answers_without_looking(mini_run: Path, tmp_path: Path) -> None:
    recipe = mini_recipe(mini_run.parent, "encoder.name=question-only", "schedule.steps=2", "training.evaluate_every=2")
    result = train(recipe, tmp_path / "blind", quiet=True).result
    assert result["encoder"]["fingerprint"] == "question-only"
    assert result["features"] is None
    blind = load(tmp_path / "blind")
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    assert blind.answer(black, "how many circles?") == blind.answer(white, "how many circles?")
