from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.features.blind import BlindSource
from clipvil.metrics.captions.reward import count_frequencies
from clipvil.records import Caption, CaptionedImage
from clipvil.tasks.base import prepare_training, units
from clipvil.tasks.caption_batches import CaptionRows, learnt_vocabulary
from clipvil.tasks.caption_scores import by_picture
from clipvil.tasks.caption_settings import CaptioningSettings
from clipvil.tasks.captioning import Captioning
from clipvil.text.caption_vocabulary import CaptionVocabulary
from tests.tasks.captions import colour_captions
from tests.tasks.features import ColourSource

SMALL = {
    "preset": "mini", "hidden": 32, "feed_size": 64, "heads": 2, "encoder_layers": 1, "decoder_layers": 1,
    "dropout": 0.0, "cell_dropout": 0.0,
}  # fmt: skip


def prepared(train: Sequence[CaptionedImage], **settings: Any) -> Captioning:
    task = Captioning({"min_word_count": 1, **settings})
    task.prepare(train)
    prepare_training(task, train)
    return task


def trained(task: Captioning, records: Sequence[CaptionedImage], steps: int, lr: float = 0.01, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    random.seed(seed)
    model = task.build(SMALL, ColourSource.spec)
    return trained_on(task, model, records, steps, lr)


def trained_on(task: Captioning, model: Any, records: Sequence[CaptionedImage], steps: int, lr: float) -> Any:
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        batch = task.collate([records[(step * 16 + i) % len(records)] for i in range(16)], ColourSource(ragged=True))
        optimiser.zero_grad()
        task.loss(model, batch).backward()
        optimiser.step()
    return model.eval()


def judged(task: Captioning, model: Any, records: Sequence[CaptionedImage]) -> float:
    predictions = task.predict(model, task.collate(records, ColourSource(ragged=True)), records)
    return task.score(predictions, records).overall.value


def test_it_learns_to_say_what_is_in_the_picture_and_then_what_is_rewarded() -> None:
    task = Captioning({"min_word_count": 1})
    train, other = units(task, colour_captions(60)), units(task, colour_captions(30, start=100))
    task.prepare(train)
    model = trained(task, train, 120)
    found = task.predict(model, task.collate(other, ColourSource()), other)
    right = sum(record.image_id.partition("/")[2] in p.output.split() for record, p in zip(other, found, strict=True))
    assert right >= 28
    before = judged(task, model, other)
    for baseline in ("greedy", "leave_one_out"):
        second = Captioning({"min_word_count": 1, "objective": "self_critical", "baseline": baseline, "samples": 4})
        second.restore(task.assets())
        prepare_training(second, train)
        torch.manual_seed(1)
        again = task.build(SMALL, ColourSource.spec)
        again.load_state_dict(model.state_dict())
        assert judged(second, trained_on(second, again, train, 25, 0.003), other) > before + 20


def test_one_prediction_a_picture_with_its_beams() -> None:
    task = prepared(by_picture(colour_captions(30)), beams=3)
    records = by_picture(colour_captions(5, start=40))
    model = trained(task, by_picture(colour_captions(30)), 20)
    found = task.predict(model, task.collate(records, ColourSource()), records)
    assert [p.record_id for p in found] == [p.image_id for p in found] == [r.image_id for r in records]
    for prediction in found:
        assert len(prediction.top) == 3
        assert prediction.top[0] == (prediction.output, prediction.confidence)
        assert all(0 < share <= 1 for _, share in prediction.top)
    greedy = task.light().predict(model, task.collate(records, ColourSource()), records)
    assert all(len(prediction.top) == 1 for prediction in greedy)
    assert task.light().score(greedy, records).breakdowns == {}
    assert task.score(greedy, records).breakdowns["metric"].keys() >= {"BLEU-4", "ROUGE-L"}


def test_confidence_is_the_geometric_mean_of_the_tokens_probabilities() -> None:
    records = by_picture(colour_captions(12))
    task = prepared(records)
    model = trained(task, records, 15)
    batch = task.collate(records[:1], ColourSource())
    [found] = task.predict(model, batch, records[:1])
    row = [*task._words().words.encode(found.output.split()), 0]
    log_probs = model(batch["cells"], torch.tensor([[0, *row[:-1]]]), None, batch["shapes"])[0]
    mean = log_probs[range(len(row)), row].mean()
    assert found.confidence == pytest.approx(mean.exp().item(), abs=1e-5)


def test_the_batch_counts_pictures_and_reads_each_grid_once() -> None:
    records = by_picture(colour_captions(4))
    task = prepared(records, captions_per_image=2, max_length=4)
    batch = task.collate(records, ColourSource(ragged=True))
    assert batch["cells"].shape[0] == 4
    assert batch["captions"].shape == (4, 2, 6)
    assert batch["mask"].shape == batch["cells"].shape[:2]
    words = task._words().words
    for own, lengths in zip(batch["captions"].tolist(), batch["lengths"].tolist(), strict=True):
        for row, length in zip(own, lengths, strict=True):
            assert row[0] == 0
            assert all(row[1:length])
            assert not any(row[length:])
            assert len(words.decode(row[1:]).split()) == length - 1 <= 4


def test_captions_of_a_picture_are_drawn_in_a_row_or_with_replacement_or_all() -> None:
    texts = ["one", "two", "three", "four", "five", "six", "seven"]
    record = CaptionedImage("x", tuple(Caption("x", text, text) for text in texts))
    few = CaptionedImage("y", record.captions[:2])
    rows = CaptionRows(CaptionVocabulary(texts), 16)
    random.seed(0)
    drawn = set()
    for _ in range(60):
        batch = rows.batch([record, few], 5)
        assert batch["captions"].shape[:2] == (2, 5)
        first, second = batch["captions"][:, :, 1].tolist()
        assert [b - a for a, b in itertools.pairwise(first)] == [1, 1, 1, 1]
        assert set(second) <= {1, 2}
        drawn.add(first[0])
    assert drawn == {1, 2, 3}
    everything = rows.batch([record, few], 0)
    assert everything["captions"][0, :, 1].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert everything["lengths"].tolist() == [[2] * 7, [2, 2, 0, 0, 0, 0, 0]]


def test_a_long_caption_is_cut_and_its_end_is_learnt_all_the_same() -> None:
    words = [f"w{i}" for i in range(30)]
    record = CaptionedImage("x", (Caption("x", " ".join(words), "1"), Caption("x", "w0 w1", "2")))
    rows = CaptionRows(CaptionVocabulary(words), 5)
    batch = rows.batch([record], 0)
    assert batch["captions"].tolist() == [[[0, 1, 2, 3, 4, 5, 0], [0, 1, 2, 0, 0, 0, 0]]]
    assert batch["lengths"].tolist() == [[6, 3]]
    # A reference that was cut has no end, the other one has.
    assert rows.references([record])["references"].tolist() == [[[1, 2, 3, 4, 5], [1, 2, 0, 0, 0]]]


def test_captions_that_say_nothing_count_nowhere() -> None:
    silent = CaptionedImage("3/red", (Caption("3/red", "  "), Caption("3/red", "...", "9")))
    train = [*by_picture(colour_captions(3)), silent]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        prepared(train)
        prepared([*train, CaptionedImage("4/red", (Caption("4/red", ""),))])
    assert [str(line.message)[:40] for line in told] == ["1 of 5 training pictures have no caption"]
    for settings in ({}, {"objective": "self_critical"}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = prepared(train, **settings)
        torch.manual_seed(0)
        model = task.build(SMALL, ColourSource.spec)
        with_it, without = task.collate(train, ColourSource()), task.collate(train[:3], ColourSource())
        if not settings:
            with_it["captions"][:3], with_it["lengths"][:3] = without["captions"], without["lengths"]
            assert task.loss(model, with_it).item() == pytest.approx(task.loss(model, without).item(), abs=1e-5)
        nothing = task.loss(model, task.collate([silent], ColourSource()))
        nothing.backward()
        assert nothing.item() == 0


@pytest.mark.parametrize(
    ("captions", "says"),
    [
        ([Caption("0/red", "")], "no training picture has a caption"),
        ([Caption("0/red", "a red square")], "no word of the 1 training captions comes 6 times"),
    ],
)
def test_nothing_to_learn_words_from(captions: list[Caption], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Captioning({}).prepare(by_picture(captions))


def test_unknown_words_share_a_row_and_may_be_suppressed() -> None:
    train = by_picture([Caption("0/red", "a red square", "1"), Caption("1/blue", "a bl\u00fcte \u4e2d\u6587", "2")])
    words = learnt_vocabulary(train, 2)
    assert words.words == ("a",)
    assert words.unknown == 2
    task = prepared(train, min_word_count=2, suppress_unknown=True)
    assert task.decoding.suppress_unknown
    assert task.light().decoding.suppress_unknown
    # Where every word is known, the last row is a word like any other.
    assert not prepared(train, suppress_unknown=True).decoding.suppress_unknown
    assert not prepared(train, suppress_unknown=True, beams=2).decoding.suppress_unknown
    stranger = by_picture([Caption("2/red", "quite other words", "3")])
    batch = task.collate(stranger, ColourSource())
    assert batch["captions"][0, 0].tolist() == [0, 2, 2, 2, 0]
    assert torch.isfinite(task.loss(task.build(SMALL, ColourSource.spec), batch))


def test_the_vocabulary_may_come_from_a_file_and_frequencies_too(tmp_path: Path) -> None:
    train = by_picture(colour_captions(9))
    vocabulary = CaptionVocabulary(["square", "a", "red"])
    vocabulary.save(tmp_path / "words.json")
    count_frequencies([c for r in train for c in r.captions], vocabulary).save(tmp_path / "df.safetensors")
    settings = {"objective": "self_critical", "vocabulary": str(tmp_path / "words.json")}
    task = prepared(train, frequencies=str(tmp_path / "df.safetensors"), **settings)
    assert task.assets() == {"words": vocabulary.to_json()}
    assert task._reward is not None
    computed = prepared(train, **settings)._reward
    assert computed is not None
    for one, other in zip(task._reward.frequencies.keys, computed.frequencies.keys, strict=True):
        assert one.tolist() == other.tolist()
    with pytest.raises(RecipeError, match="counted with another vocabulary"):
        prepared(train, objective="self_critical", frequencies=str(tmp_path / "df.safetensors"))


def test_a_restored_task_says_the_same() -> None:
    records = by_picture(colour_captions(9))
    task = prepared(records, beams=2)
    model = trained(task, records, 5)
    again = Captioning({"min_word_count": 1, "beams": 2})
    with pytest.raises(UsageError, match="no vocabulary yet"):
        again.collate(records, ColourSource())
    again.restore(task.assets())
    batch = again.collate(records, ColourSource())
    assert again.predict(model, batch, records) == task.predict(model, batch, records)
    with pytest.raises(DataError, match="vocabulary"):
        again.restore({})


def test_a_blind_captioner_is_a_language_model() -> None:
    records = by_picture(colour_captions(12))
    task = prepared(records)
    model = task.build(SMALL, BlindSource.spec)
    batch = task.collate(records, BlindSource())
    task.loss(model, batch).backward()
    found = task.predict(model.eval(), batch, records)
    assert len({prediction.output for prediction in found}) == 1


def test_scheduled_sampling_replaces_words_as_epochs_pass() -> None:
    chosen = CaptioningSettings(scheduled_sampling_start=2)
    assert [chosen.replaced(epoch) for epoch in (0, 2, 6.9, 7.1, 12.5, 100)] == [0, 0, 0, 0.05, 0.1, 0.25]
    assert CaptioningSettings().replaced(99) == 0
    records = by_picture(colour_captions(8))
    names = ("start", "every", "increase", "max")
    task = prepared(
        records, **{f"scheduled_sampling_{name}": value for name, value in zip(names, (0, 1, 0.9, 0.9), strict=True)}
    )
    torch.manual_seed(0)
    model = task.build(SMALL, ColourSource.spec)
    batch = task.collate(records, ColourSource())
    plain = task.loss(model, batch).item()
    assert task.loss(model, batch).item() == plain
    task.at_epoch(3.0)
    torch.manual_seed(1)
    assert task.loss(model, batch).item() != plain


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"beam": 3}, "did you mean 'beams'"),
        ({"beams": 0}, "'task_settings.beams' must be at least 1"),
        ({"objective": "reinforce"}, "must be cross_entropy or self_critical"),
        ({"baseline": "mean"}, "must be greedy or leave_one_out"),
        ({"label_smoothing": 1.0}, "must lie in 0..1"),
        ({"temperature": 0}, "'task_settings.temperature' must be above 0"),
        ({"samples": 1, "baseline": "leave_one_out"}, "must be at least 2"),
        ({"max_length": "16"}, "must be int, not str"),
        ({"max_length": None}, "must be int"),
        ({"no_repeat": 1}, "must be bool, not int"),
        ({"beams": 4, "groups": 3}, "4 beams cannot be shared among 3 groups"),
        ({"beams": 2, "length_penalty": "longer"}, "length_penalty"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises((RecipeError, UsageError), match=says):
        Captioning(settings)


def test_models_and_encoders_that_do_not_fit() -> None:
    task = prepared(by_picture(colour_captions(3)))
    with pytest.raises(RecipeError, match="unknown model 'pythia' for the task captioning"):
        task.build({"name": "pythia"}, ColourSource.spec)
    regions = EncoderSpec("regions", "0", 8, None, "regions")
    with pytest.raises(RecipeError, match=r"'model\.cell_positions'"):
        task.build({**SMALL, "cell_positions": True}, regions)
    task.build({**SMALL, "cell_positions": False}, regions)
    with pytest.raises(UsageError, match="prepare_training"):
        other = Captioning({"min_word_count": 1, "objective": "self_critical"})
        other.prepare(by_picture(colour_captions(3)))
        other.loss(task.build(SMALL, ColourSource.spec), {})
