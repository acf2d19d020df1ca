"""Training from pictures in two processes on the CPU is training in one: curves, resumption, evaluation."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from clipvil.training.metric_log import read_lines
from clipvil.training.run_files import read_predictions
from tests.training import distributed_pictures, judged
from tests.training.launching import launch, write_plan
from tests.training.picture_world import write_pictures

# Terms of the loss count differently many questions in each micro-batch; four micro-batches an update, dropout on.
TERMS = {"task_settings__terms": "true"}
# No micro-batches, a mean, and statistics of BatchNorm over the batch: what is random in a model differs between
# processes here, and a picture of two questions might be encoded in both, so both are off.
SYNCED = {
    "trunk__batch_norm": "sync", "training__micro_batch": "null", "model__dropout": "0.0",
    "encoder__resize": "square:64", "pictures__sentences": "1", "training__evaluate_every": "2", "schedule__steps": "2",
}  # fmt: skip


def steps(number: int) -> dict[str, str]:
    return {**TERMS, "schedule__steps": str(number)}


def curve(run: Path, *keys: str) -> list[list[float]]:
    lines = [line for line in read_lines(run / "metrics.jsonl") if line["event"] == "train"]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [[line[key] for key in keys] for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one/` by one process; `two/` by two; `changing` by two for ten updates, one for five, and two for the rest."""
    root = tmp_path_factory.mktemp("distributed")
    write_pictures(root / "pictures")

    plan = partial(write_plan, root)
    for name, changes in {"terms": steps(20), "synced": SYNCED}.items():
        launch(distributed_pictures.__name__, plan(f"two/{name}", changes), processes=2)
        distributed_pictures.main(plan(f"one/{name}", changes))
    shutil.copytree(root / "two" / "terms", root / "changing")
    shutil.rmtree(root / "changing" / "checkpoints" / "checkpoint-20")
    (root / "changing" / "result.json").unlink()
    distributed_pictures.main(plan("changing", steps(15), resume=True))
    launch(distributed_pictures.__name__, plan("changing", steps(20), resume=True), processes=2)
    return root


def test_two_processes_have_the_curve_of_one_for_twenty_updates(runs: Path) -> None:
    keys = ("loss", "loss_all", "loss_left", "grad_norm", "lr", "lr_trunk")
    one, two = curve(runs / "one" / "terms", *keys), curve(runs / "two" / "terms", *keys)
    assert len(one) == 20
    assert sum(line[0] for line in one[-5:]) / 5 < 0.6 * one[0][0]
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-4, abs=1e-5)
    results = [json.loads((runs / name / "terms" / "result.json").read_text()) for name in ("one", "two")]
    assert [result["hardware"]["processes"] for result in results] == [1, 2]


def test_synchronised_statistics_are_those_of_the_whole_batch(runs: Path) -> None:
    one, two = (curve(runs / name / "synced", "loss", "grad_norm") for name in ("one", "two"))
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-3, abs=1e-4)


def test_another_number_of_processes_may_go_on(runs: Path) -> None:
    undisturbed, changing = (curve(runs / name, "loss", "grad_norm") for name in ("one/terms", "changing"))
    for mine, theirs in zip(undisturbed, changing, strict=True):
        assert theirs == pytest.approx(mine, rel=2e-4, abs=1e-5)


def test_each_record_is_judged_once_and_alike(runs: Path) -> None:
    asked = [record.question_id for record in write_pictures(runs / "pictures")["val"].records]
    one, two = ([p for p, _ in read_predictions(runs / name / "terms", "val")] for name in ("one", "two"))
    assert [prediction.record_id for prediction in two] == asked
    assert [prediction.output for prediction in two] == [prediction.output for prediction in one]


def test_all_processes_judge_the_model_of_the_first(tmp_path: Path) -> None:
    """Statistics by device differ between processes after a step."""
    write_pictures(tmp_path / "pictures")
    plan = tmp_path / "plan.json"
    changes = {**SYNCED, "trunk__batch_norm": "per_device", "training__evaluate_every": "1"}
    plan.write_text(json.dumps([str(tmp_path / "run"), str(tmp_path / "pictures"), changes, False]))
    launch(judged.__name__, plan, processes=2)
    first, second = (plan.with_suffix(f".judged{rank}").read_text().split() for rank in (0, 1))
    assert first == second
    assert len(first) >= 2 and len(set(first[:2])) == 2  # the statistics move
