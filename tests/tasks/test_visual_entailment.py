from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from clipvil.errors import DataError, RecipeError, UsageError
from clipvil.features.blind import BlindSource
from clipvil.metrics.entailment import LABELS
from clipvil.records import Entailment
from clipvil.tasks.registry import create_task
from clipvil.tasks.visual_entailment import VisualEntailment
from tests.tasks.features import COLORS, ColourSource
from tests.tasks.fitting import check_it_fits

SMALL = {
    "name": "pythia", "preset": "mini", "word_size": 16, "lstm_size": 16, "question_hidden": 16, "attention_size": 16,
    "fusion_size": 16, "narrow_size": 16, "wide_size": 16,
}  # fmt: skip


def colour_pairs(n: int, start: int = 0) -> list[Entailment]:
    """Pairs whose label is in picture and hypothesis together: the colour, another one, or something else."""
    out = []
    for i in range(start, start + n):
        color = COLORS[(i // 3) % 3]
        text = ("It is {}.", "It is not {}.", "It weighs {}.")[i % 3].format(color)
        label = ("entailment", "contradiction", "neutral")[i % 3]
        out.append(Entailment(f"p{i}", f"{i // 3}/{color}", text, label))
    return out


def prepared(**settings: object) -> VisualEntailment:
    task = create_task("visual_entailment", settings)
    assert isinstance(task, VisualEntailment)
    task.prepare(colour_pairs(30))
    return task


@pytest.mark.parametrize("name", ["pythia", "mcan"])
def test_it_learns_what_can_be_learned(name: str) -> None:
    torch.manual_seed(0)
    task, source = prepared(), ColourSource(ragged=True)
    model = task.build(SMALL if name == "pythia" else {"name": "mcan", "preset": "mini"}, source.spec)
    records = colour_pairs(60)
    batch = task.collate(records, source)
    check_it_fits(task, model, batch, 40, 0.01 if name == "pythia" else 0.001)
    scores = task.score(task.predict(model, batch, records), records)
    assert scores.overall.value > 95
    assert set(scores.breakdowns) == {"label", "precision", "f1"}
    assert {label: score.n for label, score in scores.breakdowns["label"].items()} == dict.fromkeys(LABELS, 20)
    assert scores.images["p0"] == "0/red" and scores.mode == "accuracy"


def test_a_prediction_names_all_labels_with_probabilities() -> None:
    task, source = prepared(), ColourSource()
    model = task.build(SMALL, source.spec).eval()
    records = colour_pairs(6)
    for prediction, record in zip(task.predict(model, task.collate(records, source), records), records, strict=True):
        assert prediction.record_id == record.pair_id
        assert prediction.top[0] == (prediction.output, prediction.confidence)
        assert {label for label, _ in prediction.top} == set(LABELS)
        assert sum(share for _, share in prediction.top) == pytest.approx(1)


def test_classes_stand_in_the_order_of_the_released_models() -> None:
    batch = prepared().collate(colour_pairs(3), ColourSource())
    assert LABELS == ("contradiction", "entailment", "neutral")
    assert batch["label"].tolist() == [1, 0, 2]


def test_hypothesis_only_sees_no_picture() -> None:
    task = prepared()
    model = task.build(SMALL, BlindSource().spec).eval()
    one, other = (Entailment("a", f"0/{color}", "It is red.", "neutral") for color in COLORS[:2])
    batch = task.collate([one, other], BlindSource())
    shares = [prediction.top for prediction in task.predict(model, batch, [one, other])]
    assert shares[0] == shares[1]


def test_assets_come_back() -> None:
    task = prepared()
    assets = json.loads(json.dumps(task.assets()))
    again = create_task("visual_entailment", {})
    again.restore(assets)
    records = colour_pairs(6)
    assert torch.equal(
        again.collate(records, ColourSource())["question"], task.collate(records, ColourSource())["question"]
    )
    with pytest.raises(DataError, match="field 'labels': must be"):
        again.restore({**assets, "labels": ["entailment", "contradiction", "neutral"]})
    with pytest.raises(UsageError, match="visual_entailment has no vocabularies yet"):
        create_task("visual_entailment", {}).collate(records, ColourSource())


def test_pairs_without_labels_are_predicted_and_not_trained_on() -> None:
    task, source = prepared(), ColourSource()
    records = [*colour_pairs(2), Entailment("x", "0/red", "It is red.")]
    batch = task.collate(records, source)
    assert "label" not in batch
    with pytest.raises(DataError, match="a training pair has no label"):
        task.loss(task.build(SMALL, source.spec), batch)


def test_the_file_of_labels(tmp_path: Path) -> None:
    task, source = prepared(), ColourSource()
    records = colour_pairs(3)
    model = task.build(SMALL, source.spec).eval()
    predictions = task.predict(model, task.collate(records, source), records)
    task.submission(predictions, tmp_path / "s.json")
    rows = json.loads((tmp_path / "s.json").read_text())
    assert rows == [{"pairID": p.record_id, "gold_label": p.output} for p in predictions]
    with pytest.raises(DataError, match="pair p0 has two predictions"):
        task.submission([*predictions, predictions[0]], tmp_path / "s.json")
    with pytest.raises(DataError, match="no predictions"):
        task.submission([], tmp_path / "s.json")
    with pytest.raises(DataError, match="1 pairs are not judged: p2"):
        task.score(predictions[:2], records)


def test_wrong_settings() -> None:
    for settings, message in (
        ({"max_tokens": 0}, "must be at least 1"),
        ({"answers": "x"}, "unknown key 'task_settings.answers' for the task visual_entailment"),
        ({"tokenizer": "letters"}, "'task_settings.tokenizer' must be"),
    ):
        with pytest.raises(RecipeError, match=message):
            create_task("visual_entailment", settings)
    with pytest.raises(RecipeError, match="unknown model 'x' for the task visual_entailment"):
        prepared().build({"name": "x"}, ColourSource().spec)
    with pytest.raises(RecipeError, match=r"clip_vil_p reads word pieces; set 'task_settings\.tokenizer' to wordpiece"):
        prepared().build({"name": "clip_vil_p"}, ColourSource().spec)
