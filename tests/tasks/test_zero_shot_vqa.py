"""Zero-shot answers on features and texts whose right matches are known, through the real small text tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from clipvil.encoders.base import EncoderSpec
from clipvil.encoders.registry import create_encoder
from clipvil.errors import CheckpointError, DataError, EncoderError, RecipeError, UsageError
from clipvil.features.base import GridBatch
from clipvil.records import Question
from clipvil.tasks import zero_shot_vqa
from clipvil.tasks.base import estimate, reading_order, refusal, trains
from clipvil.tasks.registry import create_task
from clipvil.tasks.zero_shot_vqa import Matcher, ZeroShotVqa

ENCODER = create_encoder("mini/contrastive")
SPEC = EncoderSpec("mini/contrastive", ENCODER.fingerprint(), ENCODER.grid_channels, ENCODER.pooled_channels)
TEXT = ENCODER.text()  # type: ignore[attr-defined]


class Spoken:
    """A picture is the vector of the very text that is its id: what a perfect visual tower would give."""

    spec = SPEC

    def __contains__(self, image_id: object) -> bool:
        return True

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        pooled = 3.0 * TEXT.encode(list(image_ids))
        return GridBatch(torch.zeros(len(image_ids), 1, 1), None, torch.ones(len(image_ids), 2), pooled)


def question(number: int, text: str, answer: str, image: str) -> Question:
    return Question(str(number), image, text, (answer,) * 10, "other", "what")


TRAIN = [
    question(i, "What is it?", answer, str(i))
    for i, answer in enumerate(("yes", "no", "red", "blue", "ring", "star", "1", "2", "three"))
]
ASKED = [
    question(10, "What color is it?", "red", "What color is it? red"),
    question(11, "What shape is it?", "star", "What shape is it? star"),
    question(12, "What color is it?", "blue", "What color is it? blue"),
    question(13, "Is there a ring?", "yes", "Is there a ring? yes"),
]


def prepared(**settings: Any) -> tuple[ZeroShotVqa, Matcher]:
    task = ZeroShotVqa(settings)
    task.prepare(TRAIN)
    return task, cast(Matcher, task.build({}, SPEC))


def answer(task: ZeroShotVqa, matcher: Matcher, records: Sequence[Question]) -> list[Any]:
    return task.predict(matcher, task.collate(records, Spoken()), records)


def test_it_is_a_task_that_trains_nothing() -> None:
    task = create_task("zero_shot_vqa", {})
    assert isinstance(task, ZeroShotVqa) and not trains(task)
    assert trains(create_task("vqa", {}))
    with pytest.raises(UsageError, match="trains nothing"):
        task.loss(torch.nn.Identity(), {})


def test_the_answer_is_the_text_nearest_to_the_picture() -> None:
    task, matcher = prepared()
    found = answer(task, matcher, ASKED)
    assert [p.output for p in found] == ["red", "star", "blue", "yes"]
    assert [p.record_id for p in found] == ["10", "11", "12", "13"]
    assert task.score(found, ASKED).overall.value == 100.0
    for prediction in found:
        shares = [share for _, share in prediction.top]
        assert prediction.confidence == shares[0] and shares == sorted(shares, reverse=True) and len(shares) == 5


def test_cosines_and_confidences_are_those_of_the_towers() -> None:
    task, matcher = prepared()
    record = question(1, "What color is it?", "red", "a red circle on the grass")
    labels = task.answers.answers[1:]  # type: ignore[union-attr]
    texts = torch.nn.functional.normalize(TEXT.encode([f"What color is it? {label}" for label in labels]), dim=1)
    picture = torch.nn.functional.normalize(TEXT.encode([record.image_id]), dim=1)
    expected = (TEXT.scale * picture @ texts.T).softmax(1)[0]
    task.top = len(labels)
    found = answer(task, matcher, [record])[0]
    assert dict(found.top) == pytest.approx(dict(zip(labels, expected.tolist(), strict=True)), abs=1e-5)


def test_texts_the_tower_cannot_tell_apart_keep_the_order_of_the_list() -> None:
    """The small tower knows no figures: "1" and "2" are one unknown word, and the first of the list stands first."""
    task, matcher = prepared()
    record = question(1, "How many?", "2", "How many? 2")
    top = [label for label, _ in answer(task, matcher, [record])[0].top]
    labels = task.answers.answers[1:]  # type: ignore[union-attr]
    assert top[:2] == [label for label in labels if label in ("1", "2")]
    shares = dict(answer(task, matcher, [record])[0].top)
    assert shares["1"] == shares["2"]
    spelt, words = prepared(prompt="labelled")
    record = question(1, "How many?", "2", "question: How many? answer: two")
    assert answer(spelt, words, [record])[0].output == "2"


def test_candidates_follow_the_settings() -> None:
    picture = "red blue star"
    for settings, expected in (({"candidates": "form"}, {"yes", "no"}), ({"candidates": "all"}, None)):
        task, matcher = prepared(**settings)
        found = answer(task, matcher, [question(1, "Is there a ring?", "no", picture)])[0]
        assert expected is None or {label for label, _ in found.top} == expected
    task = ZeroShotVqa({"candidates": "seen"})
    task.prepare([*TRAIN, question(20, "What is on it?", "red", "a"), question(21, "Is it a ring?", "ring", "b")])
    matcher = cast(Matcher, task.build({}, SPEC))
    found = answer(task, matcher, [question(1, "What is there?", "red", picture)])[0]
    assert [label for label, _ in found.top] == ["red"]  # the one answer that two such questions had
    again = ZeroShotVqa({"candidates": "seen"})
    again.restore(task.assets())
    assert answer(again, cast(Matcher, again.build({}, SPEC)), [question(1, "What is there?", "red", picture)]) == [
        found
    ]


def test_equal_questions_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task, matcher = prepared()
    many = [question(i, f"What color is it{'?' * (i % 3)}", "red", f"picture {i}") for i in range(30)]
    order = reading_order(task, many)
    assert sorted(order) == list(range(30))
    texts = [many[i].question for i in order]
    assert texts == sorted(texts, key=texts.index)  # equal ones stand together
    features = Spoken().batch([record.image_id for record in many])
    before = matcher.text.encoded
    for start in range(0, 30, 7):
        records = [many[i] for i in order[start : start + 7]]
        pooled = features.pooled[list(order[start : start + 7])]  # type: ignore[index]
        task.predict(matcher, {"pooled": pooled}, records)
    assert matcher.text.encoded - before == 3 * len(TRAIN)
    # With no memory at all only a question that straddles two batches is encoded twice.
    monkeypatch.setattr(zero_shot_vqa, "KEPT_BYTES", 0)
    before = matcher.text.encoded
    for text in "abba":
        matcher.encode(text)
    assert matcher.text.encoded - before == 3 * len(TRAIN)


def test_a_vector_does_not_depend_on_what_was_asked_before() -> None:
    _, fresh = prepared()
    _, used = prepared()
    for text in ("What is it?", "Is it?", "How many circles are there on the left?"):
        used.encode(text)
    assert torch.equal(fresh.encode("What shape is it?").vectors, used.encode("What shape is it?").vectors)


def test_the_estimate_counts_texts() -> None:
    task, matcher = prepared(candidates="form")
    line = estimate(task, matcher, ASKED)
    texts = 2 * len(matcher.candidates("What is it?")) + 2
    assert line.startswith(f"4 questions, 3 distinct; with their candidate answers {texts} texts, at ")
    assert "second" in line
    assert estimate(create_task("vqa", {}), matcher, ASKED) == ""


def test_encoders_that_cannot_answer_are_named() -> None:
    task = ZeroShotVqa({})
    task.prepare(TRAIN)
    for name in ("timm/resnet50", "torchvision/resnet18:random", "question-only", "store:/a/b"):
        assert "no text side" in refusal(task, name)
    for name in ("open_clip/RN50:openai", "mini/contrastive", "hf/google/siglip-base-patch16-224", "own/thing"):
        assert refusal(task, name) == ""
    with pytest.raises(UsageError, match="question-only has no pooled vector"):
        task.build({}, EncoderSpec("question-only", "x", 1))
    with pytest.raises(EncoderError, match="texts have 128 channels, the stored pictures 64"):
        task.build({}, EncoderSpec("mini/contrastive", "x", 512, 64))
    with pytest.raises(RecipeError, match=r"model\.name"):
        task.build({"name": "pythia"}, SPEC)
    bare = GridBatch(torch.zeros(1, 1, 1), None, torch.ones(1, 2))
    source = Spoken()
    source.batch = lambda image_ids: bare  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="without pooled"):
        task.collate(ASKED[:1], source)


def test_assets_hold_the_text_side_to_what_it_was() -> None:
    task, _ = prepared()
    assets = task.assets()
    assert assets["text"] == TEXT.fingerprint()
    again = ZeroShotVqa({})
    again.restore({**assets, "text": "0" * 16})
    with pytest.raises(CheckpointError, match="0000000000000000"):
        again.build({}, SPEC)
    with pytest.raises(DataError):
        again.restore({})
    with pytest.raises(UsageError, match="prepare or restore"):
        ZeroShotVqa({}).assets()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"promt": "authors"}, "did you mean 'prompt'"),
        ({"prompt": "poem"}, "authors, labelled or statement"),
        ({"candidates": "some"}, "all, form or seen"),
        ({"mode": "strict"}, "auto, official, lenient, exact or evalai"),
        ({"top_answers": "9"}, "must be int"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ZeroShotVqa(settings)


def test_answers_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("green\nred\n")
    task = ZeroShotVqa({"answers": str(tmp_path / "answers.txt")})
    task.prepare(TRAIN)
    matcher = cast(Matcher, task.build({}, SPEC))
    assert {label for label, _ in answer(task, matcher, ASKED[:1])[0].top} == {"green", "red"}


def test_submission_is_the_server_s_file(tmp_path: Path) -> None:
    task, matcher = prepared()
    task.submission(answer(task, matcher, ASKED), tmp_path / "out.json")
    assert '"question_id": 10, "answer": "red"' in (tmp_path / "out.json").read_text()


def test_exact_answers_are_candidates_as_they_are_written() -> None:
    answers = ("man's shirt", "yes, it is", "T-shirt", "t-shirt")
    task = ZeroShotVqa({"mode": "exact"})
    task.prepare([question(i, "What is it?", answer, str(i)) for i, answer in enumerate(answers)])
    assert task.answers is not None and sorted(task.answers.spellings()) == sorted(answers)
