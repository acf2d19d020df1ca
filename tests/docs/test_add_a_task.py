"""The page docs/add-a-task.md holds a task that really works: its code block is run as it stands."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from clipvil.datasets.base import Dataset
from clipvil.encoders.base import EncoderSpec
from clipvil.errors import ClipvilError
from clipvil.records import Question
from clipvil.tasks import registry
from clipvil.tasks.base import Prediction
from clipvil.training.recipe import Recipe
from clipvil.training.run import evaluate, train
from tests.tasks.features import ColourSource, colour_questions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add-a-task.md"


def block() -> str:
    """The first Python block of the page."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(registry, "_registered", {})
    path = tmp_path / "labels.py"
    path.write_text(block(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("labels_of_the_docs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def dataset(split: str, start: int, pictures: int) -> Dataset:
    records = [record for record in colour_questions(2 * pictures, start=start) if record.answer_type == "other"]
    return Dataset("colours", split, records, {record.image_id: Path(record.image_id) for record in records})


def test_it_is_as_short_as_promised() -> None:
    assert len(block().splitlines()) <= 80


def test_it_trains_and_judges_through_the_ordinary_loop(labels: ModuleType, tmp_path: Path) -> None:
    assert isinstance(registry.create_task("labels", {}), labels.Labels)
    recipe = Recipe.model_validate(
        {
            "task": "labels",
            "data": {"format": "custom"},
            "encoder": {"name": "synthetic"},
            "model": {"name": "linear"},
            "optimiser": {"name": "adamw", "lr": 0.1},
            "schedule": {"name": "constant", "steps": 60},
            "training": {"batch_size": 16, "evaluate_every": 30, "loader_workers": 0},
        }
    )
    datasets = {"train": dataset("train", 0, 40), "val": dataset("val", 100, 20), "test": dataset("test", 200, 30)}
    result = train(recipe, tmp_path / "run", features=ColourSource(), datasets=datasets, quiet=True)
    assert result.scores["test"].overall.value > 95
    again = evaluate(tmp_path / "run", "test", features=ColourSource(), datasets=datasets, quiet=True)
    assert again is not None
    assert again.overall == result.scores["test"].overall


def test_it_refuses_what_it_cannot_do(labels: ModuleType) -> None:
    task = labels.Labels({})
    task.prepare(colour_questions(10))
    with pytest.raises(ClipvilError, match="has no pooled vector"):
        task.build({}, EncoderSpec("question-only", "0", 1))
    with pytest.raises(ClipvilError, match="exactly one prediction"):
        task.score([], [Question("1", "1/red", "?", ("red",))])
    with pytest.raises(ClipvilError, match="exactly one prediction"):
        task.score([Prediction("1", "1/red", "red", 1.0)] * 2, [Question("1", "1/red", "?", ("red",))])
