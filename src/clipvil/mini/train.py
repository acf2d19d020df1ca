"""Train and write the weights of the miniature encoders: `python -m clipvil.mini.train --out FOLDER`.

Both trainings share architecture, budget and seed; see docs/miniature-world.md for the protocol.
"""

from __future__ import annotations

import argparse
import logging
import platform
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from clipvil.files import atomic_write_json
from clipvil.mini.training import annotated, contrastive
from clipvil.mini.training.architecture import write_config, write_weights

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


def main() -> None:
    """Parse the command line, train what is asked for, and write `random` (config only) beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder an encoder")
    parser.add_argument("--only", choices=sorted(TRAININGS), help="train one of the two")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    write_config(options.out / "random")
    scratch = Path(tempfile.mkdtemp(prefix="clipvil-mini-"))
    try:
        for name in [options.only] if options.only else list(TRAININGS):
            train(name, options.out, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    log.info("finished at %s", datetime.now(timezone.utc).isoformat(timespec="seconds"))


if __name__ == "__main__":
    main()
