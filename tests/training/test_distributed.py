"""Two processes on the CPU under `accelerate launch`: the updates of one process, and nothing counts twice."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from clipvil.training.run_files import read_predictions
from tests.training import distributed
from tests.training.launching import launch
from tests.training.toy import toy_world


def test_two_processes_train_one_model_in_two_phases_and_judge_each_record_once(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(distributed.recipe().to_yaml())
    launch("tests.training.distributed", tmp_path / "two", processes=2)
    distributed.main(tmp_path / "one")
    two, one = load_file(tmp_path / "two" / "best.safetensors"), load_file(tmp_path / "one" / "best.safetensors")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    assert (tmp_path / "two" / "initial" / "result.json").exists()
    _, splits = toy_world()
    ids = [prediction.record_id for prediction, _ in read_predictions(tmp_path / "two", "test")]
    assert ids == [record.question_id for record in splits["test"].records]
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("two", "one")]
    assert [result["scores"]["test"]["overall"]["n"] for result in results] == [50, 50]
    assert [result["hardware"]["processes"] for result in results] == [2, 1]
    steps = [line["step"] for line in map(json.loads, (tmp_path / "two" / "metrics.jsonl").read_text().splitlines())]
    assert steps == sorted(steps)
