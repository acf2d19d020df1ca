from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipvil.cli.main import main
from clipvil.features import layout
from clipvil.features.extract import extract
from clipvil.features.store import Store
from clipvil.features.verify import verify
from tests.features.build import write_store
from tests.features.tiny import tiny_encoder
from tests.images.broken import OK, make_broken_folder


@pytest.mark.parametrize("resize", ["square", "native"])
def test_the_good_ones_are_kept_and_every_bad_one_has_its_reason(tmp_path: Path, resize: str) -> None:
    expected = make_broken_folder(tmp_path / "broken")
    report = extract(
        tmp_path / "broken", encoder=tiny_encoder(), out=tmp_path / "s", resize=resize, max_bad=0, progress=False
    )
    assert report.exit_code == 3 and report.complete
    lines = [json.loads(line) for line in (tmp_path / "s" / layout.FAILURES).read_text().splitlines()]
    assert {line["id"]: line["reason"] for line in lines} == {k: v for k, v in expected.items() if v != OK}
    assert set(Store.open(tmp_path / "s").ids()) == {name for name, outcome in expected.items() if outcome == OK}
    assert verify(tmp_path / "s").ok


def test_the_command_says_so_with_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_broken_folder(tmp_path / "broken")
    command = ["extract", str(tmp_path / "broken"), "--encoder", "mini/random", "--out", str(tmp_path / "s")]
    assert main([*command, "--max-bad", "0"]) == 3
    assert "failed (" in capsys.readouterr().err
    assert main([*command, "--max-bad", "1000"]) == 0
    assert main(["features", "verify", str(tmp_path / "s")]) == 0
    assert main(["features", "info", str(tmp_path / "s")]) == 0
    assert "too_large" in capsys.readouterr().out
    data = layout.shard_data(tmp_path / "s", 0)
    raw = bytearray(data.read_bytes())
    raw[5000] ^= 1
    data.write_bytes(raw)
    assert main(["features", "verify", str(tmp_path / "s")]) == 1
    assert "fails its checksum" in capsys.readouterr().out


def test_info_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_broken_folder(tmp_path / "broken")
    extract(tmp_path / "broken", encoder=tiny_encoder(), out=tmp_path / "s", resize="native", progress=False)
    capsys.readouterr()
    assert main(["features", "info", str(tmp_path / "s"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["manifest"]["encoder"]["name"] == "tiny" and about["failures"]["empty"] == 1
    assert about["pictures"] == sum(about["shapes"].values()) and about["complete"]


@pytest.mark.parametrize("join", [True, False])
def test_info_says_which_data_files_are_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str], join: bool) -> None:
    ids = [f"p{number}" for number in range(7)]
    # Shard 1 holds failures alone: nothing of it can be missed.
    failed = {"p2": "empty", "p3": "empty"}
    write_store(tmp_path / "s", ids, shard_size=2, failed=failed, join=join, skip_shards=() if join else (0,))
    assert main(["features", "info", str(tmp_path / "s")]) == 0
    assert "MISSING" not in capsys.readouterr().out
    layout.shard_data(tmp_path / "s", 2).unlink()
    layout.shard_data(tmp_path / "s", 1).unlink(missing_ok=True)
    assert main(["features", "info", str(tmp_path / "s")]) == 1
    assert "MISSING     1 data file: shard-00002.safetensors; extract again" in capsys.readouterr().out
    assert main(["features", "info", str(tmp_path / "s"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["missing"] == ["shard-00002.safetensors"]


def test_commands_on_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "verify", str(tmp_path)]) == 1
    assert main(["features", "info", str(tmp_path)]) == 1
    assert main(["extract", str(tmp_path / "none"), "--encoder", "mini/random", "--out", str(tmp_path / "s")]) == 1
    assert main(["extract", str(tmp_path), "--encoder", "x", "--out", "s", "--engine", "ray"]) == 2
    assert "no feature store here" in capsys.readouterr().err
