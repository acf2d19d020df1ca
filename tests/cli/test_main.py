from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipvil.cli import main as cli


def run(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "clipvil.cli.main", *arguments], capture_output=True, text=True, **kwargs
    )


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    for command in cli._COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", cli._COMMANDS)
def test_every_command_has_a_help_text(command):
    done = run(command, "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 4


def test_an_unknown_command_and_option_are_wrong_use():
    assert run("nonsense").returncode == 2
    assert run("extract", "--nonsense").returncode == 2


def test_an_error_is_one_line_even_with_a_line_break_in_a_file_name(tmp_path):
    done = run("features", "info", str(tmp_path / "no\nsuch store"))
    assert done.returncode in (1, 2)
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("clipvil: ")
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    done = run("--debug", "features", "info", str(tmp_path / "absent"))
    assert done.returncode != 0 and "Traceback" in done.stderr


def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from clipvil import environment

    def broken() -> None:
        raise AttributeError("no such\nthing")

    monkeypatch.setattr(environment, "diagnose", broken)
    assert cli.main(["doctor"]) == 1
    error = capsys.readouterr().err
    assert error == "clipvil: internal error, AttributeError: no such\\nthing; `clipvil --debug ...` shows where\n"
    monkeypatch.setenv("CLIPVIL_DEBUG", "1")
    with pytest.raises(AttributeError):
        cli.main(["doctor"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_says_that_work_is_kept(tmp_path: Path, number: int, code: int) -> None:
    """A real process in the middle of long work: writing a miniature world that takes minutes."""
    command = [sys.executable, "-m", "clipvil.cli.main", "mini", str(tmp_path / "world"), "--sizes", "train=900000"]

    def hear() -> None:
        # Under a shell's `&` interrupts are ignored, by children too, and that is right: here it must hear them.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hear)
    try:
        deadline = time.monotonic() + 100
        while not list(tmp_path.glob("world/images/train/*.png")):
            assert process.poll() is None and time.monotonic() < deadline, "no picture was ever written"
            time.sleep(0.01)
        process.send_signal(number)
        _, error = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert error.splitlines()[-1] == (
        "clipvil: interrupted; finished work is kept, run the same command again to go on"
    )
    assert "Traceback" not in error


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "clipvil.cli.main", "encoders", "mini/*"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_warning_for_people_is_one_line() -> None:
    done = run("encoders", "timm/test_resnet:random", "--about")
    assert done.returncode == 0
    assert done.stderr == "clipvil: timm/test_resnet:random: untrained weights, as asked for by ':random'\n"
