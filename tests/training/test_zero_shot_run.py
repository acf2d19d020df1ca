"""A run that trains nothing: the same files, judged, resumed and asked like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.cli.main import main
from clipvil.errors import CheckpointError
from clipvil.tasks.zero_shot_vqa import ZeroShotVqa
from clipvil.training.inputs import load_datasets
from clipvil.training.predictor import load
from clipvil.training.recipe import Recipe
from clipvil.training.run import evaluate, train
from clipvil.training.run_files import read_predictions, read_run


def recipe(mini_run: Path, *overrides: str) -> Recipe:
    """On the corpus and the features of the shared run: each picture has been encoded already."""
    shared = Recipe.from_file(mini_run / "recipe.yaml")
    data = {"data": shared.data, "encoder": shared.encoder.model_dump(), "features": {"precision": "fp32"}}
    base = Recipe.from_file("mini/zero-shot-vqa-engineered").to_values()
    store = f"features.store={mini_run / 'features'}"
    return Recipe.from_values({**base, **data}, [store, "training.evaluate_batch_size=8", *overrides])


@pytest.fixture(scope="module")
def run(mini_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zero") / "run"
    train(recipe(mini_run), out, quiet=True)
    return out


def test_the_files_of_a_run_are_there_and_say_that_nothing_was_trained(run: Path) -> None:
    result = read_run(run)
    assert result.result["task"] == "zero_shot_vqa"
    assert result.result["best"]["step"] is None and result.result["learning_curve"] == []
    assert result.result["stopped"] == {"step": 0, "reason": "nothing to train"}
    assert set(result.scores) == {"val", "test"}
    assert result.result["parameters"] > 100_000  # the text tower
    assert not (run / "best.safetensors").exists() and not list(run.glob("partial_*"))
    for prediction, score in read_predictions(run, "test"):
        assert 0 < prediction.confidence <= 1 and score is not None
        assert prediction.output == prediction.top[0][0]


def test_predictions_stand_in_the_order_of_the_records(mini_run: Path, run: Path) -> None:
    records = load_datasets(recipe(mini_run).data, ("test",))["test"].records
    assert [prediction.record_id for prediction, _ in read_predictions(run, "test")] == [r.question_id for r in records]


class Stop(Exception):
    """What a kill looks like from inside."""


def test_a_stopped_run_goes_on_at_the_next_batch(
    mini_run: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, original, calls = tmp_path / "run", ZeroShotVqa.predict, []

    def dying(self, model, batch, records):  # type: ignore[no-untyped-def]
        calls.append(len(records))
        if len(calls) == 4:
            raise Stop
        return original(self, model, batch, records)

    monkeypatch.setattr(ZeroShotVqa, "predict", dying)
    with pytest.raises(Stop):
        train(recipe(mini_run), out, quiet=True)
    assert len((out / "partial_val.jsonl").read_text().splitlines()) == 1 + 3
    before = len(calls)
    train(recipe(mini_run), out, resume=True, quiet=True)
    batches = sum(-(-scores.overall.n // 8) for scores in read_run(run).scores.values())
    assert len(calls) - before == batches - 3
    for split in ("val", "test"):
        assert (out / f"predictions_{split}.jsonl").read_bytes() == (run / f"predictions_{split}.jsonl").read_bytes()
    assert read_run(out).result["scores"] == read_run(run).result["scores"]


def test_evaluate_gives_the_same_again(run: Path, tmp_path: Path) -> None:
    scores = evaluate(run, "test", out=tmp_path, quiet=True)
    assert scores is not None and scores.overall == read_run(run).scores["test"].overall
    assert (tmp_path / "predictions_test.jsonl").read_bytes() == (run / "predictions_test.jsonl").read_bytes()


def test_a_zero_shot_run_answers_people(mini_run: Path, run: Path) -> None:
    data = load_datasets(recipe(mini_run).data, ("test",))["test"]
    found = {prediction.record_id: prediction for prediction, _ in read_predictions(run, "test")}
    predictor = load(run)
    for record in data.records[:5]:
        answers = predictor.answer(data.pictures[record.image_id], record.question)
        expected = found[record.question_id].top
        assert [share for _, share in answers] == pytest.approx([share for _, share in expected], abs=2e-3)
    both = predictor.answer(data.pictures[record.image_id], ["is there a star?", "how many stars are there?"], top=9)
    assert {answer for answer, _ in both[0]} == {"yes", "no"}
    assert len(both[1]) > 2


def test_another_text_side_under_the_same_name_is_refused(run: Path, tmp_path: Path) -> None:
    for name in ("recipe.yaml", "assets.json", "result.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    assets = json.loads((tmp_path / "assets.json").read_text())
    assets["task"]["text"] = "f" * 16
    (tmp_path / "assets.json").write_text(json.dumps(assets))
    with pytest.raises(CheckpointError, match="ffffffffffffffff"):
        load(tmp_path)


def test_the_command_says_what_it_will_cost_first(
    mini_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(recipe(mini_run).to_yaml())
    assert main(["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "distinct; with their candidate answers" in printed.err
    assert printed.err.index("distinct") < printed.err.index("evaluate val")
    assert "nothing to train" in printed.out


def test_a_server_takes_its_answers_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", str(run), "--server", "vqa2", "--split", "test"]) == 0
    rows = json.loads((run / "submission_vqa2_test.json").read_text())
    assert len(rows) == len(list(read_predictions(run, "test"))) and set(rows[0]) == {"question_id", "answer"}
