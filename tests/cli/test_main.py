from __future__ import annotations

import subprocess
import sys

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
