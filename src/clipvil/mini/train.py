"""Train and write the weights of the miniature encoders: `python -m clipvil.mini.train --out FOLDER`.

Both trainings share architecture, budget and seed; see docs/miniature-world.md for the protocol.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clipvil.errors import ClipvilError
from clipvil.files import atomic_write_json
from clipvil.mini.training import annotated, contrastive
from clipvil.mini.training.architecture import write_config, write_weights

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
log = logging.getLogger("clipvil.mini")
TRAININGS: dict[str, Callable[..., tuple[dict[str, torch.Tensor], dict[str, Any]]]] = {
    "contrastive": lambda scratch, say: contrastive.train(contrastive.Protocol(), scratch, say),
    "annotated": lambda scratch, say: annotated.train(annotated.Protocol(), scratch, say),
}


def train(name: str, out: Path, scratch: Path) -> dict[str, Any]:
    """Train one encoder and write its folder: config, tokenizer, weights and `training.json`."""
    state, measured = TRAININGS[name](scratch, log.info)
    folder = out / name
    write_config(folder)
    digest = write_weights(folder, state)
    parameters = sum(value.numel() for key, value in state.items() if key.startswith("visual."))
    record = {
        "encoder": f"mini/{name}",
        **measured,
        "vision_parameters": parameters,
        "sha256": digest,
        "bytes": (folder / "open_clip_model.safetensors").stat().st_size,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": versions(),
    }
    atomic_write_json(folder / "training.json", record)
    log.info("%s: wrote %s (%d bytes)", name, folder, record["bytes"])
    return record


def versions() -> dict[str, str]:
    """Versions of what the pictures and the numbers depend on."""
    from importlib.metadata import version

    packages = ("torch", "open_clip_torch", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def train_side_by_side(out: Path) -> None:
    """One process with one thread for each encoder: two cores are used fully and no step waits for the other core.

    Raises `ClipvilError` if a training fails; the other one is then stopped.
    """
    # Freed tensors go back to the system by default and every step faults them in again: a third of the time.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **KEEP_MEMORY}
    command = [sys.executable, "-m", "clipvil.mini.train", "--out", str(out), "--only"]
    running = {name: subprocess.Popen([*command, name], env=environment) for name in TRAININGS}
    try:
        for name, process in running.items():
            if process.wait() != 0:
                raise ClipvilError(f"the training of mini/{name} failed; its output stands above")
    finally:
        for process in running.values():
            process.terminate()


def main() -> None:
    """Parse the command line, train what is asked for, and write `random` (config only) beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder an encoder")
    parser.add_argument("--only", choices=sorted(TRAININGS), help="train one of the two, in this process")
    parser.add_argument("--threads", type=int, default=1, help="threads with --only")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    write_config(options.out / "random")
    if options.only is None:
        train_side_by_side(options.out)
    else:
        torch.set_num_threads(options.threads)
        with tempfile.TemporaryDirectory(prefix="clipvil-mini-") as scratch:
            train(options.only, options.out, Path(scratch))


if __name__ == "__main__":
    main()
