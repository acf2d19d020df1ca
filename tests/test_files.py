from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clipvil.files import atomic_write, atomic_write_json, taking_turns


def test_a_failed_block_leaves_the_old_file_and_no_temporary(tmp_path):
    target = tmp_path / "a.json"
    atomic_write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), atomic_write(target) as stream:
        stream.write(b"half")
        raise RuntimeError("stop")
    assert json.loads(target.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_names_as_long_as_the_file_system_allows(tmp_path):
    target = tmp_path / ("x" * 255)
    with atomic_write(target) as stream:
        stream.write(b"whole")
    assert target.read_bytes() == b"whole"


def test_nan_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError):
        atomic_write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path):
    # A file-size limit makes the kernel refuse the write just as a full disk does.
    code = (
        "import signal, sys, resource; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from clipvil.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as s: s.write(b'x' * 100000)\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "big")], capture_output=True, text=True)
    assert done.returncode != 0 and "File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_permissions_follow_the_umask(tmp_path):
    import os

    old = os.umask(0o027)
    try:
        atomic_write_json(tmp_path / "a.json", 1)
    finally:
        os.umask(old)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640


def test_those_that_take_turns_never_hold_the_lock_together_and_leave_nothing(tmp_path: Path) -> None:
    """Threads stand for processes: each opens the file by itself, and locks belong to what was opened."""
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with taking_turns(tmp_path / "deep" / ".lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert list((tmp_path / "deep").iterdir()) == []
    with pytest.raises(KeyError), taking_turns(tmp_path / "deep" / ".lock"):
        raise KeyError
    with pytest.raises(FileNotFoundError), taking_turns(tmp_path / "deep" / ".lock"):
        (tmp_path / "nothing").read_text()
    assert list((tmp_path / "deep").iterdir()) == []
