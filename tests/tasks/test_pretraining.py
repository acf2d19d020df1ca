"""The task pretraining: what is asked of a batch, what it costs, what is learnt, and what is refused."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from clipvil.datasets.pretraining import PretrainingBuilder
from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.models.clip_vil_p import ClipVilPModel
from clipvil.records import PretrainingPair
from clipvil.tasks.base import InitialRun, stage
from clipvil.tasks.pretraining import Pretraining
from clipvil.tasks.pretraining_batches import PairInCorpus, PairsInCorpus
from clipvil.tasks.pretraining_losses import IGNORED
from clipvil.tasks.registry import create_task
from clipvil.training.randomness import seed_everything
from tests.tasks.features import ColourSource
from tests.tasks.pretraining_corpus import SMALL, colour_sentences


def prepared(**settings: Any) -> tuple[Pretraining, PairsInCorpus]:
    task = create_task("pretraining", settings)
    assert isinstance(task, Pretraining)
    train = task.units(colour_sentences(30))
    task.prepare(train)
    return task, train


def built(task: Pretraining, **settings: Any) -> ClipVilPModel:
    torch.manual_seed(0)
    model = task.build({**SMALL, **settings}, ColourSource.spec)
    assert isinstance(model, ClipVilPModel)
    return model


def batch_of(task: Pretraining, records: Any, seed: int = 0) -> dict[str, torch.Tensor]:
    seed_everything(seed)
    return task.collate(list(records), ColourSource(ragged=True))


def fitted(task: Pretraining, model: ClipVilPModel, batches: Iterator[dict[str, torch.Tensor]]) -> list[list[float]]:
    """The losses by objective of every update."""
    optimiser = torch.optim.Adam(model.parameters(), 0.003)
    curve = []
    for batch in batches:
        terms = task.loss(model, batch)
        assert terms.names == ("mlm", "itm", "qa")
        values = terms.over(terms.weights)
        curve.append(values.tolist())
        optimiser.zero_grad()
        values.sum().backward()
        optimiser.step()
    return curve


def test_words_are_learnt_without_gathering_the_sentences() -> None:
    """Of nine million sentences a list alone would take a gigabyte."""
    builder, count = PretrainingBuilder(), 20_000
    for number in range(count):
        builder.add(f"{number // 10}", f"picture {number % 700} shows nothing but a red bus", "vqa", {"yes": 1.0})
    task = Pretraining({})
    train = task.units(builder.finish())
    tracemalloc.start()
    task.prepare(train)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * count, f"{peak / count:.0f} bytes a sentence; one of them alone takes 90"
    same = Pretraining({})
    same.prepare(list(train))  # type: ignore[arg-type]
    assert task.assets() == same.assets()


def test_every_loss_falls() -> None:
    task, train = prepared()
    curve = fitted(task, built(task), itertools.repeat(batch_of(task, train), 80))
    assert all(now < before / 4 for now, before in zip(curve[-1], curve[0], strict=True))


def test_words_and_answers_are_read_off_pictures_that_were_never_seen() -> None:
    task, train = prepared(mask_share=0.3)
    model = built(task)
    fitted(task, model, (batch_of(task, train, step) for step in range(150)))
    model.eval()
    seen = task.units(colour_sentences(60, start=60))
    scores = task.score(task.predict(model, batch_of(task, seen), list(seen)), seen)
    found = scores.breakdowns["objective"]
    assert scores.metric == "pretraining_accuracy"
    assert found["qa"].value > 80 and found["mlm"].value > 60
    assert scores.overall.value == pytest.approx(sum(score.value for score in found.values()) / 3)
    assert scores.overall.low < scores.overall.value < scores.overall.high


def test_a_picture_is_asked_for_once_however_many_sentences_are_about_it() -> None:
    task, train = prepared()
    asked: list[list[str]] = []

    class Counting(ColourSource):
        def batch(self, image_ids: Any) -> Any:
            asked.append(list(image_ids))
            return super().batch(image_ids)

    batch = task.collate([train[i] for i in (3, 4, 0, 5)], Counting())
    assert asked == [["1/green", "0/red"]]
    assert batch["picture"].tolist() == [0, 0, 1, 0] and len(batch["cells"]) == 2
    assert batch["tokens"].shape[1] == int(batch["token_mask"].sum(dim=1).max())


def test_what_is_asked_of_a_batch() -> None:
    task, train = prepared()
    batch = batch_of(task, list(train) * 6)
    asked = batch["hidden"] != IGNORED
    words = task.words
    assert words is not None and task.answers is not None
    special = torch.isin(batch["tokens"], torch.tensor([words.pad, words.cls, words.sep]))
    assert 0.12 < asked.sum() / (batch["token_mask"].sum() - 2 * len(asked)) < 0.18
    assert float((batch["tokens"][asked] == words.mask).float().mean()) == pytest.approx(0.8, abs=0.07)
    assert not (asked & special & (batch["tokens"] == batch["hidden"])).any()
    assert 0.4 < batch["matched"].float().mean() < 0.6
    # An answer is asked of matched questions alone; "red" and "a red" are one answer of the table.
    answers = batch["answer"] != IGNORED
    questions = torch.tensor([record.pair.source == "vqa" for record in list(train) * 6])
    assert torch.equal(answers, questions & (batch["matched"] == 1))
    assert sorted(task.answers.answers) == ["blue", "green", "red"]
    assert task.loss_weights(batch).tolist() == [asked.sum(), len(asked), answers.sum()]


def test_a_batch_is_a_function_of_the_seed() -> None:
    task, train = prepared()
    one, same, other = (batch_of(task, train, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["hidden"], other["hidden"]) and not torch.equal(one["matched"], other["matched"])


def test_the_loss_of_a_batch_is_that_of_its_parts() -> None:
    task, train = prepared()
    model = built(task).eval()
    whole = batch_of(task, train)
    terms = task.loss(model, whole)
    sums = torch.zeros(3)
    for start in range(0, len(train), 30):
        rows = slice(start, start + 30)
        part = {name: value[rows] for name, value in whole.items() if len(value) == len(train)}
        part |= {name: whole[name] for name in ("cells", "shapes", "mask")}
        sums += task.loss(model, part).sums.detach()
    assert torch.allclose(sums, terms.sums.detach(), rtol=1e-4)
    assert torch.equal(terms.weights, task.loss_weights(whole))


def test_questions_can_join_later() -> None:
    task, train = prepared(qa_from_epoch=2)
    model, batch = built(task), batch_of(task, train)
    task.at_epoch(1.9)
    early = task.loss(model, batch)
    assert early.sums[2] == 0 and early.sums[0] > 0
    assert stage(task) == 0 and stage(prepared()[0]) == 1
    early.value().backward()
    assert model.heads["answers"].out.weight.grad is not None  # type: ignore[union-attr]
    task.at_epoch(2.0)
    assert task.loss(model, batch).sums[2] > 0 and stage(task) == 1


def test_cells_are_drawn_in_training_alone() -> None:
    task, train = prepared()
    model, batch = built(task, keep_cells=2), batch_of(task, train)
    arguments = [batch[name] for name in ("tokens", "token_mask", "cells")]
    kept = model(*arguments, batch.get("mask"), batch["shapes"], batch["picture"]).sequence.shape[1]
    assert kept == batch["tokens"].shape[1] + 2
    model.eval()
    everything = model(*arguments, batch.get("mask"), batch["shapes"], batch["picture"]).sequence.shape[1]
    assert everything == batch["tokens"].shape[1] + batch["cells"].shape[1]


def test_objectives_that_are_left_out_ask_nothing() -> None:
    task, train = prepared(objectives=["mlm"])
    batch = batch_of(task, train)
    assert batch["matched"].all() and "answer" not in batch
    model = built(task)
    assert set(model.heads) == {"mlm"}
    assert task.loss(model, batch).names == ("mlm",)
    assert task.assets().keys() == {"words"}
    predictions = task.predict(model.eval(), batch, list(train))
    asked = (batch["hidden"] != IGNORED).any(dim=1).tolist()
    assert [bool(prediction.top) for prediction in predictions] == asked


@pytest.mark.parametrize("objectives", [["mlm"], ["itm"], ["mlm", "itm"], ["mlm", "qa"]])
def test_every_parameter_gets_a_gradient(objectives: list[str]) -> None:
    """Several processes wait for each of them, and stop at the second update where one never comes."""
    task, train = prepared(objectives=objectives)
    model = built(task)
    task.loss(model, batch_of(task, train)).sums.sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_second_stage_refuses_other_words_answers_and_bert(tmp_path: Path) -> None:
    first, train = prepared()
    assets = first.assets()
    (tmp_path / "vocab.txt").write_text("\n".join(first.words.pieces), encoding="utf-8")  # type: ignore[union-attr]
    (tmp_path / "other.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred", encoding="utf-8")
    (tmp_path / "answers.json").write_text(json.dumps(assets["answers"]))
    (tmp_path / "other.json").write_text(json.dumps([{"ans": "purple", "dsets": ["vqa"]}]))
    initial = InitialRun("pretraining", assets, {"task_settings": {"bert": "a-bert"}}, tmp_path / "best.safetensors")
    same = {"words": str(tmp_path / "vocab.txt"), "answers": str(tmp_path / "answers.json"), "bert": "a-bert"}
    second = Pretraining(same)
    second.continue_from(initial, train)
    assert second.assets() == assets
    for name, other in (("words", "other.txt"), ("answers", "other.json"), ("bert", "another-bert")):
        with pytest.raises(RecipeError, match=f"task_settings.{name}': .*{other} differs from what init"):
            Pretraining({**same, name: other if name == "bert" else str(tmp_path / other)}).continue_from(
                initial, train
            )


def test_assets_make_the_task_again() -> None:
    task, train = prepared()
    again = create_task("pretraining", {})
    again.restore(task.assets())
    one, other = batch_of(task, train), batch_of(again, train)  # type: ignore[arg-type]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_pairs_of_a_plain_list_serve_as_well() -> None:
    pairs = list(colour_sentences(3))
    task = Pretraining({})
    train = task.units(pairs)
    task.prepare(train)
    assert len(batch_of(task, train)["tokens"]) == 9
    assert train.column("image_id") == [pair.image_id for pair in pairs]
    assert train[-1] == PairInCorpus(pairs[-1], 0, ()) and train[1:3][0].uid == pairs[1].uid


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ["mlm", "itn"]}, "unknown objective 'itn'; known are mlm, itm, qa"),
        ({"objectives": []}, "must be a list of some of"),
        ({"objectives": ["qa"]}, "needs mlm or itm beside qa"),
        ({"objectives": ["mlm", "mlm"]}, "names one twice"),
        ({"mask_share": 0.0}, "mask_share' must lie between 0 and 1"),
        ({"mismatch_share": 1.0}, "mismatch_share' must lie between 0 and 1"),
        ({"max_tokens": 2}, "max_tokens' must be at least 3"),
        ({"objectives": ["mlm"], "qa_from_epoch": 1}, "without the objective qa"),
        ({"objective": ["mlm"]}, "did you mean 'objectives'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Pretraining(settings)


def test_what_cannot_be_pre_trained(tmp_path: Path) -> None:
    task, _ = prepared()
    with pytest.raises(RecipeError, match="unknown model 'pythia' for the task pretraining"):
        task.build({"name": "pythia"}, ColourSource.spec)
    with pytest.raises(RecipeError, match="has regions; choose another encoder"):
        task.build(SMALL, EncoderSpec("regions", "0", 8, cells="regions"))
    with pytest.raises(UsageError, match="judged by no server"):
        task.submission([], tmp_path / "out.json")
    with pytest.raises(UsageError, match="no vocabulary yet"):
        Pretraining({}).assets()
    captions = [PretrainingPair("a", "0/red", "It is red.", "mscoco"), PretrainingPair("b", "0/red", "Red.", "mscoco")]
    alone = Pretraining({})
    with pytest.raises(DataError, match="is a question with an answer"):
        alone.prepare(alone.units(captions))
    lonely = Pretraining({"objectives": ["mlm", "itm"]})
    lonely.prepare(lonely.units(captions))
    with pytest.raises(DataError, match="about one picture"):
        for seed in range(20):
            batch_of(lonely, lonely.units(captions), seed)


def test_scores_want_every_record_once() -> None:
    task, train = prepared()
    model, batch = built(task).eval(), batch_of(task, train)
    predictions = task.predict(model, batch, list(train))
    with pytest.raises(DataError, match="no prediction for"):
        task.score(predictions[1:], train)
    with pytest.raises(DataError, match="has two predictions"):
        task.score([*predictions, predictions[0]], train)
    with pytest.raises(DataError, match="not among the records"):
        task.score(predictions, task.units(colour_sentences(3)))
