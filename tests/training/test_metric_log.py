from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.training.metric_log import MetricLog, read_lines


def test_rewind_leaves_what_an_undisturbed_run_would_have(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricLog(path)
    for step in (1, 2, 3):
        log.write("train", step, loss=0.1 * step)
    log.sync()
    whole = path.read_bytes()
    log.write("evaluate", 4, value=1.0, name="é")
    with path.open("ab") as stream:
        stream.write(b'{"event": "train", "step": 5, "lo')
    assert [line["step"] for line in read_lines(path)] == [1, 2, 3, 4]
    log.rewind(3)
    assert path.read_bytes() == whole
    log.rewind(0)
    assert path.read_bytes() == b""


@pytest.mark.parametrize("torn", [b"\xff\xfe", b"{}", b"[1]", b'{"step": "x"}', b"3"])
def test_a_torn_or_foreign_line_is_left_out(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"event": "train", "step": 1}\n' + torn)
    assert [line["step"] for line in read_lines(path)] == [1]


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "x" / "metrics.jsonl", enabled=False)
    log.write("train", 1)
    log.sync()
    log.rewind(0)
    assert not (tmp_path / "x").exists()


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        MetricLog(tmp_path / "m.jsonl").write("train", 1, loss=float("nan"))
