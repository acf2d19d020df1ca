from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.features.base import GridBatch
from clipvil.records import Question
from clipvil.tasks.base import Prediction, Scores
from clipvil.tasks.registry import create_task
from clipvil.tasks.vqa import Vqa, check_complete
from tests.tasks.features import ColourSource, colour_questions

MODEL = {"name": "pythia", "preset": "mini", "word_size": 8, "lstm_size": 16}
MODELS_TRIED = [
    MODEL,
    {"name": "mcan", "preset": "mini", "hidden": 32},
    {"name": "movie_mcan", "preset": "mini", "hidden": 32, "movie_size": 16},
]


def prepared(records: list[Question] | None = None, **settings: object) -> Vqa:
    task = Vqa(settings)
    task.prepare(colour_questions(60) if records is None else records)
    return task


def model_of(task: Vqa, settings: dict[str, object] = MODEL) -> nn.Module:
    torch.manual_seed(0)
    return task.build(settings, ColourSource.spec)


def test_batch_shapes() -> None:
    task, records = prepared(), colour_questions(4)
    batch = task.collate(records, ColourSource())
    assert task.answers is not None
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "question": (4, 14),
        "length": (4,),
        "cells": (4, 4, 8),
        "shapes": (4, 2),
        "targets": (4, len(task.answers)),
    }
    assert batch["length"].tolist() == [4, 3, 4, 3]
    assert batch["targets"].sum(1).tolist() == [1, 1, 1, 1]
    ragged = task.collate(records, ColourSource(ragged=True))
    assert ragged["mask"].tolist() == [[True] * 4 + [False] * 2] * 2 + [[True] * 6] * 2
    unanswered = [dataclasses.replace(record, answers=()) for record in records]
    assert "targets" not in task.collate(unanswered, ColourSource())


def test_targets_follow_the_votes() -> None:
    records = [Question("1", "0/red", "?", ("red", "red", "blue") + ("teal",) * 7)]
    task = prepared([Question("9", "0/red", "?", ("red", "blue"))])
    assert task.answers is not None
    targets = task.collate(records, ColourSource())["targets"][0]
    assert targets[task.answers["red"]].item() == pytest.approx(0.6)
    assert targets[task.answers["blue"]].item() == pytest.approx(0.3)
    assert targets[0] == 0


def test_loss_is_summed_over_answers_and_averaged_over_questions() -> None:
    task = prepared()
    model = model_of(task)
    batch = task.collate(colour_questions(6), ColourSource())
    model.eval()
    logits = model(batch["question"], batch["length"], batch["cells"], None, batch["shapes"]).logits
    plain = nn.functional.binary_cross_entropy_with_logits(logits, batch["targets"], reduction="none")
    assert task.loss(model, batch).item() == pytest.approx(plain.sum(1).mean().item(), rel=1e-5)
    with pytest.raises(DataError, match="no answers"):
        task.loss(model, {name: value for name, value in batch.items() if name != "targets"})


def test_every_trained_head_counts_in_full() -> None:
    task = prepared()
    model = model_of(task, MODELS_TRIED[2])
    batch = task.collate(colour_questions(6), ColourSource())
    output = model(batch["question"], batch["length"], batch["cells"], None, batch["shapes"])
    losses = [
        nn.functional.binary_cross_entropy_with_logits(logits, batch["targets"], reduction="none").sum(1).mean()
        for logits in output.supervised
    ]
    assert len(losses) == 3
    assert task.loss(model, batch).item() == pytest.approx(sum(loss.item() for loss in losses), rel=1e-5)


def trained_scores(settings: dict[str, object], ragged: bool, steps: int) -> Scores:
    """Scores on new pictures after a short training; language alone gets half of the questions right."""
    source = ColourSource(ragged=ragged)
    train, test = colour_questions(240), colour_questions(60, start=400)
    task = prepared(train)
    model = model_of(task, settings)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        picked = torch.randperm(240, generator=generator)[:60].tolist()
        loss = task.loss(model, task.collate([train[i] for i in picked], source))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    return task.score(task.predict(model, task.collate(test, source), test), test)


@pytest.mark.parametrize("ragged", [False, True])
def test_learns_what_only_the_picture_tells(ragged: bool) -> None:
    scores = trained_scores(MODEL, ragged, 80)
    assert scores.overall.value > 90
    assert scores.mode == "official"
    assert scores.metric == "vqa_accuracy"


@pytest.mark.parametrize("settings", MODELS_TRIED[1:], ids=["mcan", "movie_mcan"])
def test_every_model_learns_to_see(settings: dict[str, object]) -> None:
    # To name a colour it must be seen: guessing gets a third. (Whether it is the one asked for takes them longer.)
    assert trained_scores(settings, True, 60).breakdowns["answer_type"]["other"].value > 90


def test_predictions_never_are_unknown_and_carry_confidence() -> None:
    task = prepared()
    model = model_of(task).eval()
    assert task.answers is not None
    with torch.no_grad():
        model.wide.out.bias[0] = 100.0  # <unk> would win
    records = colour_questions(5)
    predictions = task.predict(model, task.collate(records, ColourSource()), records)
    assert [p.record_id for p in predictions] == [r.question_id for r in records]
    for prediction in predictions:
        assert prediction.output != "<unk>"
        assert prediction.top[0] == (prediction.output, prediction.confidence)
        assert len(prediction.top) == 5
        assert sum(value for _, value in prediction.top) == pytest.approx(1, abs=1e-5)  # five answers in all
        assert [value for _, value in prediction.top] == sorted((v for _, v in prediction.top), reverse=True)


def predictions_for(records: list[Question]) -> list[Prediction]:
    return [Prediction(r.question_id, r.image_id, r.answers[0], 0.9) for r in records]


def test_scores_with_intervals_and_breakdowns() -> None:
    records = colour_questions(40)
    predictions = predictions_for(records)
    wrong = [dataclasses.replace(p, output="no") if i % 4 == 0 else p for i, p in enumerate(predictions)]
    scores = prepared().score(wrong, records)
    assert scores.overall.value == pytest.approx(75)
    assert scores.overall.low < 75 < scores.overall.high
    assert scores.overall.n == 40
    assert scores.breakdowns["answer_type"]["yes/no"].value == 100
    assert scores.breakdowns["answer_type"]["other"].value == 50
    assert scores.breakdowns["question_type"].keys() == {"what", "is it"}
    assert scores.per_record["1000"] == 0
    assert scores.images["1000"] == records[0].image_id
    json.dumps(scores.to_json(), allow_nan=False)


def test_a_group_about_one_picture_still_is_json() -> None:
    records = colour_questions(2)
    scores = prepared().score(predictions_for(records), records)
    assert (scores.overall.low, scores.overall.high) == (0, 100)
    json.dumps(scores.to_json(), allow_nan=False)


def test_mode_follows_the_number_of_annotators() -> None:
    few = colour_questions(4, votes=1)
    assert prepared().mode(few) == "lenient"
    assert prepared().mode(colour_questions(4)) == "official"
    assert prepared(mode="lenient").mode(colour_questions(4)) == "lenient"
    assert prepared().score(predictions_for(few), few).overall.value == 100
    with pytest.raises(DataError, match="needs ten annotators"):
        prepared(mode="official").score(predictions_for(few), few)


def test_missing_double_and_unknown_predictions_are_named() -> None:
    records = colour_questions(4)
    good = predictions_for(records)
    task = prepared()
    for check in (task.score, check_complete):
        with pytest.raises(DataError, match="question 1003"):
            check(good[:3], records)  # type: ignore[operator]
        with pytest.raises(DataError, match="question 1000 has two predictions"):
            check([*good, good[0]], records)  # type: ignore[operator]
        with pytest.raises(DataError, match="1003, which is not among"):
            check(good, records[:3])  # type: ignore[operator]


def test_submission_is_the_official_result_file(tmp_path: Path) -> None:
    records = colour_questions(3)
    task = prepared()
    task.submission(predictions_for(records), tmp_path / "r.json")
    rows = json.loads((tmp_path / "r.json").read_text())
    assert rows[1] == {"question_id": 1001, "answer": records[1].answers[0]}
    assert len(rows) == 3
    with pytest.raises(DataError, match="two predictions"):
        task.submission(predictions_for(records) * 2, tmp_path / "s.json")
    with pytest.raises(DataError, match="'train/1' is not a whole number"):
        task.submission([Prediction("train/1", "x", "red", 1.0)], tmp_path / "s.json")
    with pytest.raises(DataError, match="no predictions"):
        task.submission([], tmp_path / "s.json")
    assert not (tmp_path / "s.json").exists()


def test_assets_bring_a_task_back() -> None:
    task = prepared()
    assets = json.loads(json.dumps(task.assets()))
    again = Vqa({})
    with pytest.raises(UsageError, match="no vocabularies yet"):
        again.assets()
    again.restore(assets)
    records = colour_questions(4)
    first, second = task.collate(records, ColourSource()), again.collate(records, ColourSource())
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(DataError):
        again.restore({})


def test_vocabulary_files_and_word_vectors(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("what\ncolor\n")
    (tmp_path / "answers.txt").write_text("<unk>\nred\nyes\n")
    (tmp_path / "glove.txt").write_text("what 1 2 3\n")
    task = prepared(
        words=str(tmp_path / "words.txt"),
        answers=str(tmp_path / "answers.txt"),
        vectors=str(tmp_path / "glove.txt"),
    )
    assert task.answers is not None
    assert task.answers.answers == ("<unk>", "red", "yes")
    model = task.build({"name": "pythia", "preset": "mini"}, ColourSource.spec)
    assert model.words.weight.shape == (6, 3)
    assert model.words.weight[4].tolist() == [1, 2, 3]


def test_constant_features_make_the_question_only_row() -> None:
    class Blind:
        spec = EncoderSpec("question-only", "question-only", 1)

        def __contains__(self, image_id: object) -> bool:
            return True

        def batch(self, image_ids: list[str]) -> GridBatch:
            n = len(image_ids)
            return GridBatch(torch.ones(n, 1, 1), None, torch.ones(n, 2, dtype=torch.int64))

    task = prepared()
    model = task.build(MODEL, Blind.spec)
    batch = task.collate(colour_questions(8), Blind())  # type: ignore[arg-type]
    loss = task.loss(model, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("mode", "score"), [("lenient", 0.0), ("evalai", 100.0)])
def test_the_recipe_chooses_among_all_modes_of_the_metric(mode: str, score: float) -> None:
    """Only MMF's normaliser splits off the possessive."""
    question = Question("1", "a.jpg", "whose?", ("dog 's",) * 10)
    scores = Vqa({"mode": mode}).score([Prediction("1", "a.jpg", "dog's", 1.0)], [question])
    assert (scores.mode, scores.overall.value) == (mode, score)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_token": 3}, "did you mean 'max_tokens'"),
        ({"max_tokens": "3"}, "must be int, not str"),
        ({"mode": "best"}, "auto, official, lenient, exact or evalai"),
        ({"max_tokens": 0}, "at least 1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        create_task("vqa", settings)
    with pytest.raises(RecipeError, match="unknown model 'mccan'"):
        prepared().build({"name": "mccan"}, ColourSource.spec)
