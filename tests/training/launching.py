"""Several processes on the CPU, as people start them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SHARDED = ("--use_fsdp", "--fsdp_version", "2")
ROOT = Path(__file__).resolve().parents[2]


def write_plan(root: Path, run: str, changes: dict[str, str], resume: bool = False) -> Path:
    """What `distributed_pictures.main` reads: the run under `root`, pictures in `root/pictures`, changed settings."""
    path = root / f"{run.replace('/', '-')}-{changes['schedule__steps']}.json"
    path.write_text(json.dumps([str(root / run), str(root / "pictures"), changes, resume]))
    return path


def launch(module: str, *arguments: Path, processes: int, kind: tuple[str, ...] = ("--multi_gpu",)) -> None:
    """Run a module of the tests under `accelerate launch`. `kind`: model copies, or `SHARDED`.

    `--multi_gpu` starts the processes whatever they compute on; `--cpu --num_processes 2` starts a single one.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", *kind, "--num_processes", str(processes),
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port),
        "-m", module, *map(str, arguments),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-9000:]
