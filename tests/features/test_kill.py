"""Killed at any moment and started again, extraction ends in the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.extract import extract
from clipvil.features.manifest import load_manifest
from clipvil.features.plan import prepare_folder
from clipvil.features.store import Store
from clipvil.features.verify import verify
from tests.features.build import contents
from tests.features.tiny import tiny_encoder, write_pictures


def run(pictures: Path, out: Path, **options: Any) -> None:
    extract(
        pictures,
        encoder=tiny_encoder(),
        out=out,
        resize="native",
        precision="fp32",
        batch_size=4,
        shard_size=8,
        progress=False,
        **options,
    )


def run_and_die(pictures: Path, out: Path, die_at: int, options: dict[str, Any]) -> None:
    """Run in a process that kills itself just before its n-th step on the disk; exit code 7 if it has fewer steps."""
    steps = iter(range(1_000_000))

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **keywords: Any) -> Any:
            if next(steps) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return step

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink")):
        setattr(owner, name, dying(getattr(owner, name)))
    run(pictures, out, **options)
    os._exit(7)


def check_what_is_left(folder: Path, whole: Path) -> None:
    """Whatever a kill leaves can be read, holds nothing wrong, and is at worst incomplete."""
    try:
        store = Store.open(folder, check=True)
    except StoreError as error:
        assert "no feature store here" in str(error)
        return
    complete = Store.open(whole)
    for image_id in store.ids():
        assert store[image_id].grid.equal(complete[image_id].grid)
    assert all("incomplete" in problem for problem in verify(folder).problems)


def kill_at_every_step(server: ForkServerContext, pictures: Path, out: Path, whole: Path, before: Path | None) -> int:
    options = {"retry_failed": before is not None}
    for die_at in range(10_000):
        shutil.rmtree(out, ignore_errors=True)
        if before is not None:
            shutil.copytree(before, out)
        child = server.Process(target=run_and_die, args=(pictures, out, die_at, options))
        child.start()
        child.join()
        if child.exitcode == 7:
            return die_at
        assert child.exitcode == -signal.SIGKILL
        if before is None:
            check_what_is_left(out, whole)
        run(pictures, out, **options)
        assert contents(out) == contents(whole), f"killed before step {die_at}"
    raise AssertionError("the run never ends")


def test_killed_at_every_step_on_the_disk(server: ForkServerContext, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 11)
    (tmp_path / "p" / "0002.png").write_bytes(b"")
    run(tmp_path / "p", tmp_path / "whole")
    steps = kill_at_every_step(server, tmp_path / "p", tmp_path / "s", tmp_path / "whole", None)
    assert steps > 15  # two shards: at least the fsyncs and renames of data, indices, manifest and joined files


def test_a_retry_killed_at_every_step_on_the_disk(server: ForkServerContext, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 6)
    good = (tmp_path / "p" / "0002.png").read_bytes()
    (tmp_path / "p" / "0002.png").write_bytes(b"")
    run(tmp_path / "p", tmp_path / "before")
    (tmp_path / "p" / "0002.png").write_bytes(good)
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    run(tmp_path / "p", tmp_path / "whole", retry_failed=True)
    assert layout.shard_data(tmp_path / "whole", 0, 1).exists() and verify(tmp_path / "whole").ok
    steps = kill_at_every_step(server, tmp_path / "p", tmp_path / "s", tmp_path / "whole", tmp_path / "before")
    assert steps > 10


def test_killed_at_random_moments(server: ForkServerContext, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 120)
    run(tmp_path / "p", tmp_path / "whole")
    moments = random.Random(0)
    killed = 0
    for shards in (1, 5, 9, 12):  # of 15; counted on the disk, since a moment by the clock may find the work done
        child = server.Process(target=run, args=(tmp_path / "p", tmp_path / "s"))
        child.start()
        while child.is_alive() and len(list(tmp_path.glob("s/shard-*.index.safetensors"))) < shards:
            time.sleep(0.001)
        child.join(moments.uniform(0, 0.02))
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)
            killed += 1
        child.join()
        check_what_is_left(tmp_path / "s", tmp_path / "whole")
    assert killed
    run(tmp_path / "p", tmp_path / "s")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_two_processes_fill_one_folder(server: ForkServerContext, tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 60)
    run(tmp_path / "p", tmp_path / "whole")
    children = [
        server.Process(target=run, args=(tmp_path / "p", tmp_path / "s"), kwargs={"shard": f"{number}/3"})
        for number in (1, 2, 3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(Store.open(tmp_path / "s")) == 60
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_a_folder_that_another_process_fills_at_this_moment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The other process writes its manifest and a shard at the moment when this one looks what the folder holds."""
    write_pictures(tmp_path / "p", 4)
    run(tmp_path / "p", tmp_path / "whole")
    folder, names = tmp_path / "s", Path.iterdir

    def meanwhile(path: Path) -> Iterator[Path]:
        if path == folder and not (folder / layout.MANIFEST).exists():
            shutil.copytree(tmp_path / "whole", folder, dirs_exist_ok=True)
        return names(path)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    assert prepare_folder(folder) == load_manifest(tmp_path / "whole")
