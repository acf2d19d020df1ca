from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.errors import CheckpointError
from clipvil.files import atomic_write
from clipvil.tasks.base import Prediction
from clipvil.training.partial import KeyedLog, PartialPredictions
from tests.full_disk import full_disk

ONE = [Prediction("1", "a", "yes", 0.1 + 0.2, (("yes", 0.1 + 0.2), ("no", 1 / 3)))]
TWO = [Prediction("2", "b", "ñ", 0.5)]


def write(path: Path) -> None:
    with PartialPredictions(path, "key") as partial:
        assert partial.done == {}
        partial.add(3, ONE)
        partial.add(0, TWO)


def test_what_was_kept_comes_back_to_the_last_bit_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"
    write(path)
    with PartialPredictions(path, "key") as again:
        assert again.done == {3: ONE, 0: TWO}
        again.add(1, TWO)
    with PartialPredictions(path, "key") as again:
        assert again.done == {3: ONE, 0: TWO, 1: TWO}


def test_a_line_that_was_being_written_is_dropped_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"
    write(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with PartialPredictions(path, "key") as cut:
            known = whole[:size].count(b"\n") - 1
            assert list(cut.done) == [3, 0][: max(known, 0)]
            cut.add(7, ONE)
        with PartialPredictions(path, "key") as again:
            assert list(again.done) == [*[3, 0][: max(known, 0)], 7]


def test_another_key_or_a_foreign_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"
    write(path)
    with PartialPredictions(path, "other") as other:
        assert other.done == {}
    path.write_bytes(b"\x00\xff{]\n" * 3)
    with PartialPredictions(path, "other") as other:
        assert other.done == {}
        other.add(1, ONE)
    with PartialPredictions(path, "other") as other:
        assert other.done == {1: ONE}


def test_a_full_disk_names_the_file_and_what_was_kept_stays(tmp_path: Path) -> None:
    path, taken = tmp_path / "log.jsonl", []
    log = KeyedLog(path, "key", taken.append)
    log.add({"unit": 0})
    with full_disk(5000):
        with pytest.raises(CheckpointError, match=r"log\.jsonl: cannot be written \(File too large\); make room"):
            log.add({"unit": "x" * 20_000})
        log.close()
    again = KeyedLog(path, "key", taken.append)
    assert taken == [{"unit": 0}]
    again.add({"unit": 1})
    again.close()
    assert path.read_text().endswith('{"unit": 0}\n{"unit": 1}\n')


def test_a_file_that_finds_no_room_is_named(tmp_path: Path) -> None:
    with full_disk(5000), pytest.raises(OSError, match="File too large") as caught:  # noqa: SIM117
        with atomic_write(tmp_path / "out.jsonl") as stream:
            stream.write(b"x" * 20_000)
    assert caught.value.filename == str(tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []
