from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
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
    assert predictor.answer(torch.from_numpy(np.array(image)).permute(2, 0, 1), question, top=3) == answers


def test_several_questions_are_answered_for_one_encoding(
    mini_run: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next((mini_run.parent / "data" / "images" / "test").iterdir())
    questions = ["what color is the circle?", "how many stars are there?", "what color is the circle?"]
    alone = [predictor.answer(path, question) for question in questions]
    assert predictor.encoder is not None
    calls = []
    encode = predictor.encoder.encode
    monkeypatch.setattr(predictor.encoder, "encode", lambda pixels: calls.append(1) or encode(pixels))
    together = predictor.answer(path, questions)
    assert len(calls) == 1
    for one, same in zip(alone, together, strict=True):
        assert [answer for answer, _ in one] == [answer for answer, _ in same]
        assert [share for _, share in one] == pytest.approx([share for _, share in same], abs=1e-6)
    assert predictor.answer(path, tuple(questions[:1])) == [alone[0]]
    assert predictor.answer(path, []) == []
    many = predictor.answer(path, [f"how many things are in row {number}?" for number in range(150)])
    assert len(many) == 150


def test_top_gives_as_many_as_asked_and_there_are(mini_run: Path, predictor: Predictor) -> None:
    path = next((mini_run.parent / "data" / "images" / "test").iterdir())
    everything = predictor.answer(path, "what is it?", top=10_000)
    assert len(everything) > 5
    assert sum(share for _, share in everything) == pytest.approx(1, abs=1e-4)
    assert len({answer for answer, _ in everything}) == len(everything)
    for top in (1, 5, 7):
        assert predictor.answer(path, "what is it?", top=top) == everything[:top]
    for wrong in (0, -1, 2.0, True, "5"):
        with pytest.raises(UsageError, match="top must be a whole number from 1 on"):
            predictor.answer(path, "what is it?", top=wrong)  # type: ignore[call-overload]


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
    with pytest.raises(UsageError, match="question is empty"):
        predictor.answer(grey, ["what is it?", ""])
    with pytest.raises(UsageError, match="must be text, not int"):
        predictor.answer(grey, [1])  # type: ignore[list-item]
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
