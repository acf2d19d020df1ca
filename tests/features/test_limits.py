"""What extraction does at the limits of the machine: a full disk, much more data than memory should hold."""

from __future__ import annotations

import resource
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.extract import extract
from clipvil.features.store import Store
from clipvil.images.sources import ImageItem, ListSource, open_source
from tests.features.build import contents
from tests.features.tiny import tiny_encoder, write_pictures


def run(source: Any, out: Path, **options: Any) -> None:
    extract(source, encoder=tiny_encoder(), out=out, precision="fp32", progress=False, **options)


def run_with_small_files(pictures: Path, out: Path, limit: int, answer: Connection) -> None:
    """No file may grow beyond `limit` bytes: writing fails in the middle, as it does on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(pictures, out, shard_size=8, resize="square:64")
        answer.send("done")
    except StoreError as error:
        answer.send(str(error))


@pytest.mark.parametrize("limit", [100, 1000, 5000, 10_000, 15_000])
def test_a_full_disk_gives_one_line_and_loses_nothing(server: ForkServerContext, tmp_path: Path, limit: int) -> None:
    write_pictures(tmp_path / "p", 20)
    run(tmp_path / "p", tmp_path / "whole", shard_size=8, resize="square:64")
    mine, theirs = server.Pipe()
    child = server.Process(target=run_with_small_files, args=(tmp_path / "p", tmp_path / "s", limit, theirs))
    child.start()
    child.join()
    assert child.exitcode == 0
    told = mine.recv()
    assert "no space left to write" in told and "run the same command again" in told and "\n" not in told
    assert [path.name for path in (tmp_path / "s").iterdir() if path.name.startswith(".")] == []
    if (tmp_path / "s" / layout.MANIFEST).exists():
        assert not Store.open(tmp_path / "s").complete
    run(tmp_path / "p", tmp_path / "s", shard_size=8, resize="square:64")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def peak_memory(pictures: Path, count: int, out: Path, answer: Connection) -> None:
    items = list(open_source(pictures))
    many = [ImageItem(str(number), "again", items[number % len(items)].read) for number in range(count)]
    run(ListSource(many), out, shard_size=32, batch_size=8, resize="square:256")
    answer.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def test_memory_does_not_grow_with_the_number_of_pictures(server: ForkServerContext, tmp_path: Path) -> None:
    """A picture's canvas and grid are 220 kB here, so 450 more would be 100 MB if anything kept them."""
    write_pictures(tmp_path / "p", 8)
    peaks = []
    for count in (150, 600):
        mine, theirs = server.Pipe()
        child = server.Process(target=peak_memory, args=(tmp_path / "p", count, tmp_path / str(count), theirs))
        child.start()
        child.join()
        peaks.append(mine.recv())
    assert peaks[1] <= 1.1 * peaks[0]
