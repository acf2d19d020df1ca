"""Visual entailment in a comparison: the hypothesis-only row, chance and majority, and the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.compare.baselines import LABEL_CHANCE, MAJORITY_LABEL, label_baselines
from clipvil.compare.matrix import compare
from clipvil.compare.report import render
from clipvil.compare.table import render_table
from clipvil.records import Entailment


def pairs(labels: str) -> list[Entailment]:
    names = {"c": "contradiction", "e": "entailment", "n": "neutral"}
    return [Entailment(f"{i}{letter}", str(i // 2), "so", names[letter]) for i, letter in enumerate(labels)]


def test_chance_and_the_commonest_label_of_training() -> None:
    chance, majority = label_baselines("t", "test", pairs("eenc"), pairs("cceeen" * 4))
    assert (chance.name, majority.name) == (LABEL_CHANCE, MAJORITY_LABEL)
    assert chance.mean.value == pytest.approx(100 / 3) and chance.mean.n == 24
    assert majority.mean.value == 50
    assert {label: found.value for label, found in majority.breakdowns["label"].items()} == {
        "contradiction": 0, "entailment": 100, "neutral": 0
    }  # fmt: skip


def test_a_comparison_of_entailment(tmp_path: Path) -> None:
    data = {"format": "mini_snli_ve", "root": str(tmp_path / "world"), "sizes": {"train": 30, "val": 12, "test": 12}}
    overrides = [
        "schedule.steps=4", "schedule.warmup_steps=1", "training.evaluate_every=2", "training.batch_size=16",
        "features.precision=fp32", "features.workers=0",
    ]  # fmt: skip
    results = compare(
        encoders=["mini/contrastive"], tasks=["mini/entailment"], data=data, seeds=1, overrides=overrides,
        out=tmp_path / "out", quiet=True,
    )  # fmt: skip
    rows = {row.encoder: row for row in results.rows if row.split == "test"}
    assert set(rows) == {"mini/contrastive", "question-only"}
    blind = rows["question-only"]
    # Built so that the sentence alone tells nothing: exactly one in three, whatever was learned.
    assert blind.mean.value == pytest.approx(100 / 3)
    assert set(blind.breakdowns["label"]) == {"contradiction", "entailment", "neutral"}
    assert {row.name for row in results.baselines} == {LABEL_CHANCE, MAJORITY_LABEL}
    assert (results.tasks[0].metric, results.tasks[0].mode) == ("entailment_accuracy", "accuracy")
    page = render(results)
    assert "score on test by label" in page and MAJORITY_LABEL in page
    assert "question-only" in render_table(results)
    assert any(entry.prompt.startswith("The ") for group in results.gallery for entry in group.entries)
