from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clipvil.datasets.vcr_results import read_said
from clipvil.errors import DataError, RecipeError
from clipvil.metrics.vcr import choice
from clipvil.records import Commonsense
from clipvil.tasks.base import InitialRun
from clipvil.tasks.registry import create_task
from clipvil.tasks.vcr import Vcr, score_sequences
from clipvil.tasks.vcr_scores import COLUMNS
from tests.tasks.features import COLORS, ColourSource
from tests.tasks.fitting import check_it_fits

MODEL = {
    "name": "clip_vil_p", "preset": "mini", "hidden": 32, "heads": 2, "layers": 2, "feed_forward": 32,
    "text_positions": 40,
}  # fmt: skip
CORNERS = ((0.0, 0.0, 50.0, 50.0), (50.0, 0.0, 100.0, 50.0), (0.0, 50.0, 50.0, 100.0), (50.0, 50.0, 100.0, 100.0))


def colour_commonsense(n: int) -> list[Commonsense]:
    """Pictures of four cells, one of which shows a colour: what is it, and is it that cell that [0] is?"""
    records = []
    for i in range(n):
        color = COLORS[i % 3]
        words = [*COLORS, "nothing"]
        order = [(place + i // 3) % 4 for place in range(4)]
        rotated = [words[place] for place in order]
        box = CORNERS[i % 4]
        records.append(
            Commonsense(
                f"q{i}", f"{i}/{color}", ("What", "is", (0,), "?"),
                tuple(((0,), "is", word, ".") for word in rotated),
                tuple(("It", "looks", word, "to", (0,), ".") for word in rotated[::-1]),
                rotated.index(color), rotated[::-1].index(color), ("person", "cup"), (box, CORNERS[0]), (100.0, 100.0),
            )
        )  # fmt: skip
    return records


def prepared(**settings: object) -> Vcr:
    task = create_task("vcr", {"max_tokens": 40, **settings})
    assert isinstance(task, Vcr)
    task.prepare(colour_commonsense(12))
    return task


def test_it_learns_answers_and_rationales() -> None:
    torch.manual_seed(0)
    task, source, records = prepared(), ColourSource(), colour_commonsense(24)
    model = task.build(MODEL, source.spec)
    batch = task.collate(records, source)
    assert batch["question"].shape[:2] == (24, 8)
    assert batch["label"].shape == (24, 2)
    check_it_fits(task, model, batch, 60, 0.003)
    predictions = task.predict(model, batch, records)
    scores = task.score(predictions, records)
    assert scores.overall.value > 90
    assert set(scores.breakdowns["subtask"]) == {"Q->A", "QA->R", "Q->AR"}
    assert scores.mode == "Q->AR"
    for prediction in predictions:
        assert tuple(name for name, _ in prediction.top) == COLUMNS
        blocks = torch.tensor([value for _, value in prediction.top]).view(5, 4)
        assert torch.allclose(blocks.sum(dim=1), torch.ones(5), atol=1e-5)
        assert int(prediction.output) == choice(blocks[0].tolist())


def test_predictions_do_not_depend_on_labels_or_on_the_batch() -> None:
    """A test set without labels gets the columns that it would get with them."""
    torch.manual_seed(0)
    task, source, records = prepared(), ColourSource(), colour_commonsense(6)
    model = task.build(MODEL, source.spec).eval()
    known = task.predict(model, task.collate(records, source), records)
    hidden = [replace(record, answer_label=None, rationale_label=None) for record in records]
    batch = task.collate(hidden[:2], source)
    assert "label" not in batch
    blind = task.predict(model, batch, hidden[:2])
    for one, other in zip(known, blind, strict=False):
        assert [value for _, value in one.top] == pytest.approx([value for _, value in other.top], abs=1e-5)
    with pytest.raises(DataError, match="no label"):
        task.loss(model, batch)


def test_while_it_trains_rationales_are_asked_for_given_the_right_answer_alone() -> None:
    task, source, records = prepared().light(), ColourSource(), colour_commonsense(4)
    model = task.build(MODEL, source.spec).eval()
    found = task.predict(model, task.collate(records, source), records)
    for prediction, record in zip(found, records, strict=True):
        given = f"rationale_conditioned_on_a{record.answer_label}_0"
        assert len(prediction.top) == 8
        assert given in dict(prediction.top)
    assert task.score(found, records).overall.n == 4


@pytest.mark.parametrize(("subtask", "name", "sequences"), [("answer", "Q->A", 4), ("rationale", "QA->R", 4)])
def test_one_subtask_alone(subtask: str, name: str, sequences: int, tmp_path: Path) -> None:
    task, source, records = prepared(subtask=subtask), ColourSource(), colour_commonsense(4)
    model = task.build(MODEL, source.spec).eval()
    batch = task.collate(records, source)
    assert batch["question"].shape[1] == sequences
    found = task.predict(model, batch, records)
    scores = task.score(found, records)
    assert scores.mode == name
    assert list(scores.breakdowns["subtask"]) == [name]
    with pytest.raises(DataError, match="subtask must be both"):
        task.submission(found, tmp_path / "s.csv")


def test_the_submission_holds_the_columns_and_is_read_back(tmp_path: Path) -> None:
    task, source, records = prepared(), ColourSource(), colour_commonsense(3)
    model = task.build(MODEL, source.spec).eval()
    found = task.predict(model, task.collate(records, source), records)
    task.submission(found, tmp_path / "s.csv")
    header, *lines = (tmp_path / "s.csv").read_text().splitlines()
    assert header == ",".join(["annot_id", *COLUMNS])
    assert [line.split(",")[0] for line in lines] == ["q0", "q1", "q2"]
    said = read_said(tmp_path / "s.csv")
    assert said["q1"].answer == tuple(value for _, value in found[1].top[:4])
    assert set(said["q1"].rationales) == {0, 1, 2, 3}


def test_the_right_sequences_are_found_by_the_label_and_their_pieces_in_the_text() -> None:
    task, source, records = prepared(), ColourSource(), colour_commonsense(3)
    batch = task.collate(records, source)
    question = batch["question"].flatten(0, 1)
    rows = task.teacher_rows(batch).tolist()
    assert len(rows) == 6
    for place, row in enumerate(rows):
        problem = task.problems(records[place // 2])[place % 2]
        assert problem.label is not None
        reading = task.reading(problem, problem.label)
        assert question[row, : len(reading.rows)].tolist() == reading.rows
        text = problem.text(problem.label)
        assert "".join(problem.parts(problem.label)) == text
        for piece, thing, (start, end) in zip(reading.rows, reading.objects, reading.places, strict=True):
            said = text[start:end].lower()
            assert said == "" if (start, end) == (0, 0) else task.words.pieces[piece].removeprefix("##") == said  # type: ignore[union-attr]
            assert thing != 0 or said in "riley"


def test_tags_read_their_boxes_and_can_be_left_untied() -> None:
    torch.manual_seed(0)
    source, records = ColourSource(), colour_commonsense(1)
    elsewhere = [replace(records[0], boxes=(CORNERS[3], CORNERS[3]))]
    for tie in (True, False):
        task = prepared(tie=tie)
        model = task.build(MODEL, source.spec).eval()
        here, there = (score_sequences(model, task.collate(r, source)).logits for r in (records, elsewhere))
        assert torch.equal(here, there) != tie
    without = [replace(records[0], boxes=())]
    assert "boxes" not in task.collate(without, source)
    with pytest.raises(DataError, match=r"question q0 has no boxes.*tie to false"):
        prepared().collate(without, source)
    with pytest.raises(DataError, match="no width and height"):
        prepared().collate([replace(records[0], size=None)], source)


def test_long_texts_lose_the_end_of_their_longest_part() -> None:
    task = prepared(max_tokens=12)
    record = replace(colour_commonsense(1)[0], question=(*["What"] * 30, (0,)))
    reading = task.reading(task.problems(record)[0], 0)
    assert len(reading.rows) == 12
    # The question lost its end, the tag in it too; the choice, whose first piece is a tag, is whole.
    assert reading.objects.count(0) == 1
    assert reading.objects.index(0) == reading.segments.index(1)
    assert sum(reading.segments) == 5
    with pytest.raises(DataError, match="no room"):
        prepared(max_tokens=5).reading(task.problems(record)[1], 0)


def test_another_tasks_run_is_continued_with_the_words_that_it_lacked(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    vqa = create_task("visual_entailment", {"tokenizer": "wordpiece"})
    from clipvil.records import Entailment

    vqa.prepare([Entailment("p", "0/red", "It is red.", "entailment")])
    small = {**MODEL, "text_positions": 20}
    body = vqa.build(small, ColourSource.spec)
    save_file(body.state_dict(), tmp_path / "model.safetensors")
    initial = InitialRun("visual_entailment", vqa.assets(), {"model": small}, tmp_path / "model.safetensors")
    task = create_task("vcr", {"max_tokens": 40})
    assert isinstance(task, Vcr)
    task.continue_from(initial, colour_commonsense(12))
    there = vqa.words.pieces  # type: ignore[attr-defined]
    assert task.words is not None
    assert task.words.pieces[: len(there)] == there  # type: ignore[union-attr]
    assert "riley" in task.words.pieces  # type: ignore[union-attr]
    model = task.build(MODEL, ColourSource.spec)
    report = task.adopt(model, initial)
    assert report["taken"] == ["body"]
    own, old = model.state_dict(), body.state_dict()
    table = own["body.text.words.weight"]
    assert torch.equal(table[: len(there)], old["body.text.words.weight"])
    assert len(table) > len(there)
    assert torch.equal(own["body.blocks.0.query.weight"], old["body.blocks.0.query.weight"])


def test_wrong_settings_are_said() -> None:
    with pytest.raises(RecipeError, match="subtask"):
        create_task("vcr", {"subtask": "joint"})
    with pytest.raises(RecipeError, match="wordpiece"):
        create_task("vcr", {"tokenizer": "words"})
    with pytest.raises(RecipeError, match="it trains clip_vil_p"):
        prepared().build({"name": "pythia"}, ColourSource.spec)


def test_a_teacher_is_told_the_right_choices_and_where_their_pieces_stand() -> None:
    task, source, records = prepared(), ColourSource(), colour_commonsense(5)
    lessons = task.teacher_inputs(records)
    batch = task.collate(records, source)
    rows = task.teacher_rows(batch)
    assert len(lessons) == len(rows) == 10
    words, sequences = task._pieces().words, batch["question"].flatten(0, 1)
    for place, (lesson, row) in enumerate(zip(lessons, rows.tolist(), strict=True)):
        record = records[place // 2]
        assert (
            lesson.image_id == record.image_id
            and lesson.gold == (record.answer_label, record.rationale_label)[place % 2]
        )
        assert lesson.gold is not None and lesson.choices[lesson.gold] == lesson.text and len(lesson.choices) == 4
        for number, (begin, end) in zip(sequences[row].tolist(), lesson.pieces, strict=False):
            if end:
                assert words.pieces[number].removeprefix("##") == lesson.text[begin:end].lower()


def test_a_question_without_labels_teaches_nothing() -> None:
    task = prepared()
    with pytest.raises(DataError, match="has no label"):
        task.teacher_inputs([replace(colour_commonsense(1)[0], answer_label=None)])
