"""CLIP-ViL_p in the task vqa: word pieces instead of words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import clipvil
from clipvil.errors import DataError, RecipeError
from clipvil.features.base import GridBatch
from clipvil.tasks.vqa import Vqa
from clipvil.text.wordpiece import WordPiece
from clipvil.training.run import train
from tests.tasks.features import ColourSource, colour_questions
from tests.training.conftest import mini_recipe

MODEL = {"name": "clip_vil_p", "preset": "mini", "hidden": 32, "layers": 2, "init_std": 0.18}


def prepared(**settings: object) -> Vqa:
    task = Vqa({"tokenizer": "wordpiece", **settings})
    task.prepare(colour_questions(60))
    return task


def test_it_learns_to_see() -> None:
    source, records, test = ColourSource(ragged=True), colour_questions(240), colour_questions(60, start=400)
    task = prepared()
    torch.manual_seed(0)
    model = task.build(MODEL, source.spec)
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        picked = torch.randperm(240, generator=generator)[:60].tolist()
        loss = task.loss(model, task.collate([records[place] for place in picked], source))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    scores = task.score(task.predict(model, task.collate(test, source), test), test)
    # Guessing a colour gets a third.
    assert scores.breakdowns["answer_type"]["other"].value > 80


class Counting(ColourSource):
    """Notes how many pictures each batch asked for."""

    def __init__(self) -> None:
        super().__init__(ragged=True)
        self.asked: list[int] = []

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        self.asked.append(len(image_ids))
        return super().batch(image_ids)


def test_questions_about_one_picture_share_its_cells_and_their_projection() -> None:
    records, source, task = colour_questions(12), Counting(), prepared()
    torch.manual_seed(0)
    model = task.build(MODEL, source.spec).eval()
    projected: list[int] = []
    model.body.grid.project.register_forward_hook(  # type: ignore[union-attr]
        lambda _m, inputs, _o: projected.append(len(inputs[0]))
    )
    batch = task.collate(records, source)
    assert source.asked == [6] and len(batch["cells"]) == len(batch["mask"]) == len(batch["shapes"]) == 6
    assert batch["picture"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    together = {p.record_id: p.confidence for p in task.predict(model, batch, records)}
    assert projected == [6]
    for record in records:
        alone = task.collate([record], source)
        assert "picture" not in alone
        (found,) = task.predict(model, alone, [record])
        assert found.confidence == pytest.approx(together[record.question_id], abs=1e-5)


def test_assets_bring_back_the_same_pieces() -> None:
    task = prepared(max_tokens=6)
    again = Vqa({"tokenizer": "wordpiece", "max_tokens": 6})
    again.restore(json.loads(json.dumps(task.assets())))
    assert isinstance(again.words, WordPiece) and isinstance(task.words, WordPiece)
    assert again.words.pieces == task.words.pieces
    batch = again.collate(colour_questions(3), ColourSource())
    assert torch.equal(batch["question"], task.collate(colour_questions(3), ColourSource())["question"])
    assert batch["question"].shape == (3, 6) and batch["question"][:, 0].tolist() == [task.words.cls] * 3
    with pytest.raises(DataError, match="pieces"):
        Vqa({"tokenizer": "wordpiece"}).restore({**task.assets(), "words": {"words": ["a"]}})


def test_words_and_pieces_are_not_mixed_up(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"reads word pieces; set .* to wordpiece"):
        task = Vqa({})
        task.prepare(colour_questions(9))
        task.build(MODEL, ColourSource.spec)
    with pytest.raises(RecipeError, match=r"reads words; set .* to words"):
        prepared().build({"name": "pythia", "preset": "mini"}, ColourSource.spec)
    with pytest.raises(RecipeError, match="of whole words"):
        Vqa({"tokenizer": "wordpiece", "vectors": "glove.txt"})
    with pytest.raises(RecipeError, match="words or wordpiece"):
        Vqa({"tokenizer": "letters"})


def test_a_run_trains_and_answers(tmp_path: Path) -> None:
    recipe = mini_recipe(tmp_path, "task_settings.tokenizer=wordpiece").model_copy(update={"model": MODEL})
    train(recipe, tmp_path / "run", quiet=True)
    said = clipvil.load(tmp_path / "run").answer(next((tmp_path / "data").rglob("*.png")), "how many are there?")
    assert 0 < sum(share for _, share in said) <= 1 + 1e-5
