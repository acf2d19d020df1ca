"""Fine-tuning that starts from pre-training: what is taken over, what begins fresh, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clipvil.errors import CheckpointError, RecipeError
from clipvil.tasks.base import InitialRun, Task, begin, continue_from
from clipvil.tasks.pretraining import Pretraining
from clipvil.tasks.registry import create_task
from clipvil.text.wordpiece import WordPiece
from tests.tasks.features import ColourSource, colour_questions
from tests.tasks.pretraining_corpus import SMALL, colour_sentences
from tests.tasks.test_visual_entailment import colour_pairs

PIECES = {"tokenizer": "wordpiece", "max_tokens": 12}
MODEL = {"name": "clip_vil_p", **SMALL}


def pretrained(folder: Path, settings: dict[str, Any] | None = None, **model: Any) -> tuple[InitialRun, nn.Module]:
    """A run of pre-training as it would be found on disk, untrained."""
    task = Pretraining(settings or {})
    task.prepare(task.units(colour_sentences(30)))
    torch.manual_seed(7)
    chosen = {**MODEL, **model}
    built = task.build(chosen, ColourSource.spec)
    path = folder / "best.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in built.state_dict().items()}, path)
    return InitialRun("pretraining", task.assets(), {"task": "pretraining", "model": chosen}, path), built


def fine_tuned(name: str, initial: InitialRun, model: dict[str, Any] | None = None) -> tuple[Any, Task, nn.Module]:
    """Report, task and model of a run that starts there."""
    task = create_task(name, PIECES)
    records: Any = colour_questions(60) if name == "vqa" else colour_pairs(30)
    continue_from(task, initial, records)
    torch.manual_seed(0)
    built = task.build(model or MODEL, ColourSource.spec)
    return task.adopt(built, initial), task, built  # type: ignore[attr-defined]


def test_vqa_takes_the_body_and_the_rows_of_its_answers(tmp_path: Path) -> None:
    initial, before = pretrained(tmp_path)
    report, task, model = fine_tuned("vqa", initial)
    old, new = before.state_dict(), model.state_dict()
    body = [name for name in new if name.startswith("body.")]
    assert body and all(torch.equal(new[name], old[name]) for name in body)
    table, answers = [item["ans"] for item in initial.assets["answers"]], list(task.head_answers())  # type: ignore[attr-defined]
    assert {"red", "green", "blue"} <= set(table) and "yes" not in table
    for row, answer in enumerate(answers):
        for leaf in ("weight", "bias"):
            now = new[f"heads.answers.out.{leaf}"][row]
            there = old[f"heads.answers.out.{leaf}"]
            assert torch.equal(now, there[table.index(answer)] if answer in table else torch.zeros_like(now))
    for leaf in ("hidden.weight", "norm.bias"):
        assert torch.equal(new[f"heads.answers.{leaf}"], old[f"heads.answers.{leaf}"])
    assert report["taken"] == ["body", "answers"] and report["left_behind"] == ["itm", "mlm"] and report["fresh"] == []
    assert report["answers"] == {"found": 3, "of": len(answers), "missing": [a for a in answers if a not in table]}


def test_words_are_those_of_pre_training(tmp_path: Path) -> None:
    initial, _ = pretrained(tmp_path)
    _, task, model = fine_tuned("vqa", initial)
    assert task.words.pieces == WordPiece.from_json(initial.assets["words"]).pieces  # type: ignore[attr-defined]
    batch = task.collate(colour_questions(6), ColourSource())
    assert torch.isfinite(task.loss(model, batch))  # type: ignore[arg-type]


def test_entailment_takes_the_body_alone(tmp_path: Path) -> None:
    initial, before = pretrained(tmp_path)
    report, _, model = fine_tuned("visual_entailment", initial)
    assert torch.equal(model.state_dict()["body.pooler.weight"], before.state_dict()["body.pooler.weight"])
    assert report["taken"] == ["body"] and report["fresh"] == ["answers"]
    assert report["left_behind"] == ["answers", "itm", "mlm"] and "answers" not in report


def test_pre_training_without_answers_gives_a_fresh_head(tmp_path: Path) -> None:
    initial, _ = pretrained(tmp_path, {"objectives": ["mlm", "itm"]})
    report, _, model = fine_tuned("vqa", initial)
    assert report["taken"] == ["body"] and report["fresh"] == ["answers"]
    assert model.state_dict()["heads.answers.out.weight"].abs().sum() > 0


def test_the_second_stage_takes_the_heads_of_the_first(tmp_path: Path) -> None:
    initial, before = pretrained(tmp_path, {"objectives": ["mlm", "itm"]})
    task = Pretraining({})
    continue_from(task, initial, task.units(colour_sentences(30)))
    model = task.build(MODEL, ColourSource.spec)
    report = task.adopt(model, initial)
    assert report["taken"] == ["body", "mlm", "itm"] and report["fresh"] == ["answers"]
    assert torch.equal(model.state_dict()["heads.itm.weight"], before.state_dict()["heads.itm.weight"])


def test_a_model_with_its_encoder_gives_the_rest(tmp_path: Path) -> None:
    """What a run from pictures left: names with `head.`, and the encoder's."""
    initial, before = pretrained(tmp_path)
    tensors = {f"head.{name}": value.contiguous() for name, value in before.state_dict().items()}
    save_file({**tensors, "trunk.conv.weight": torch.ones(2)}, tmp_path / "best.safetensors")
    _, _, model = fine_tuned("vqa", initial)
    assert torch.equal(model.state_dict()["body.pooler.weight"], before.state_dict()["body.pooler.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 32}, "is (.*64.*), here (.*32.*): take the same model section"),
        ({"layers": 1}, "'body.blocks.1.* which this model has not"),
        ({"layers": 3}, "lacks 'body.blocks.2"),
        ({"pooler": "linear"}, "has pooler_tanh True, this model False"),
        ({"heads": 2}, "has heads 4, this model 2"),
    ],
)
def test_another_model_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    initial, _ = pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        fine_tuned("vqa", initial, {**MODEL, **change})


def test_runs_that_have_nothing_to_give(tmp_path: Path) -> None:
    initial, _ = pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no word pieces, which clip_vil_p reads"):
        fine_tuned("vqa", dataclasses.replace(initial, assets={"words": {"words": []}}))
    words = create_task("vqa", {})
    with pytest.raises(RecipeError, match="tokenizer to wordpiece"):
        continue_from(words, initial, colour_questions(60))
    words.prepare(colour_questions(60))
    pythia = words.build({"name": "pythia", "preset": "mini"}, ColourSource.spec)
    with pytest.raises(CheckpointError, match="is no clip_vil_p; set"):
        words.adopt(pythia, initial)  # type: ignore[attr-defined]
    save_file({"body.pooler.weight": torch.ones(2)}, tmp_path / "best.safetensors")
    with pytest.raises(CheckpointError, match="do not fit together"):
        fine_tuned("vqa", initial)
    (tmp_path / "best.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        fine_tuned("vqa", initial)


@pytest.mark.parametrize("name", ["vqa", "visual_entailment"])
def test_other_words_or_another_bert_than_the_runs_are_refused(name: str, tmp_path: Path) -> None:
    initial, _ = pretrained(tmp_path)
    pieces = initial.assets["words"]["pieces"]
    (tmp_path / "same.txt").write_text("\n".join(pieces), encoding="utf-8")
    (tmp_path / "other.txt").write_text("\n".join([*pieces[:-2], pieces[-1], pieces[-2]]), encoding="utf-8")
    initial = dataclasses.replace(initial, recipe={**initial.recipe, "task_settings": {"bert": "a-bert"}})
    records: Any = colour_questions(60) if name == "vqa" else colour_pairs(30)

    def started(before: InitialRun, **settings: str) -> Any:
        task = create_task(name, {**PIECES, **settings})
        continue_from(task, before, records)
        return task

    known = started(initial, words=str(tmp_path / "same.txt"), bert="a-bert")
    # A run of the task itself passes its words on as well.
    own = dataclasses.replace(initial, task=name, assets=known.assets())
    for before in (initial, own):
        assert list(started(before).words.pieces) == pieces
        for key, other in (("words", str(tmp_path / "other.txt")), ("bert", "another-bert")):
            with pytest.raises(RecipeError, match=f"task_settings.{key}': {other} differs from what init"):
                started(before, **{key: other})


def test_other_answers_than_those_of_a_run_of_vqa_are_refused(tmp_path: Path) -> None:
    task = create_task("vqa", PIECES)
    task.prepare(colour_questions(60))
    initial = InitialRun("vqa", task.assets(), {"task": "vqa"}, tmp_path / "best.safetensors")
    answers = list(task.head_answers())  # type: ignore[attr-defined]
    for file, lines in (("same.txt", answers), ("other.txt", answers[:-1])):
        (tmp_path / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    continue_from(create_task("vqa", {**PIECES, "answers": str(tmp_path / "same.txt")}), initial, ())
    with pytest.raises(RecipeError, match=r"task_settings.answers': .*other.txt differs from what init"):
        continue_from(create_task("vqa", {**PIECES, "answers": str(tmp_path / "other.txt")}), initial, ())


def test_a_bert_is_for_word_pieces_and_clip_vil_p() -> None:
    with pytest.raises(RecipeError, match=r"task_settings\.bert' reads word pieces"):
        create_task("vqa", {"bert": "bert-base-uncased"})
    task = create_task("vqa", {**PIECES, "bert": "no/such"})
    task.prepare(colour_questions(60))
    assert begin(create_task("vqa", PIECES), nn.Linear(1, 1)) == {}
    with pytest.raises(RecipeError, match="is for the model clip_vil_p"):
        begin(task, nn.Linear(1, 1))
