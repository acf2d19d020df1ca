"""Kill `clipvil extract` with SIGKILL at random moments, start it again each time, and compare with an undisturbed run.

    python benchmarks/kill.py [FOLDER] [--pictures 300] [--kills 10] [--encoder mini/random] [--seed 0]

Prints where each kill struck and what it left, and exits with 0 only if every file of the store (but `cost.json`, which
holds times) has the bytes of the undisturbed run and `features verify` finds the store sound.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CLIPVIL_SHARED", ROOT.parent / "shared"))


def command(options: argparse.Namespace, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "clipvil.cli.main", "extract", str(options.folder), "--encoder", options.encoder,
        "--out", str(out), "--resize", options.resize, "--precision", "fp32", "--shard-size", str(options.shard_size),
    ]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "cost.json"}


def kill_and_restart(options: argparse.Namespace, out: Path, seconds: float, started: float) -> int:
    """Kill the command until `options.kills` kills have struck while it was extracting; returns how many did."""
    moments, struck = random.Random(options.seed), 0
    while struck < options.kills:
        if (out / "index.safetensors").exists():
            shutil.rmtree(out)  # it got through before the kills were used up: once more from the start
        process = subprocess.Popen(command(options, out), stderr=subprocess.DEVNULL)
        # Mostly while it extracts; now and then while it starts.
        time.sleep(moments.uniform(0.8 * started, started + seconds / 2))
        if process.poll() is not None:
            continue
        process.send_signal(signal.SIGKILL)
        process.wait()
        names = sorted(path.name for path in out.iterdir()) if out.exists() else []
        shards = sum(name.endswith(".index.safetensors") for name in names)
        half = [name for name in names if name.startswith(".")]
        struck += bool(names)
        print(f"kill {struck}: {shards} shards complete, half-written: {', '.join(half) or 'nothing'}", flush=True)
    return struck


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED / "data" / "flickr8k_1000" / "images")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--encoder", default="mini/random")
    parser.add_argument("--resize", default="native:short=128,long=224")
    parser.add_argument("--shard-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        whole, out, links = (Path(temporary) / name for name in ("whole", "killed", "pictures"))
        links.mkdir()
        for path in sorted(options.folder.iterdir())[: options.pictures]:
            (links / path.name).symlink_to(path.resolve())
        options.folder = links
        begun = time.monotonic()
        process = subprocess.Popen(command(options, whole))
        while not (whole / "manifest.json").exists() and process.poll() is None:
            time.sleep(0.01)
        started = time.monotonic() - begun
        if process.wait():
            return 1
        seconds = time.monotonic() - begun - started
        print(f"undisturbed: {started:.1f} s to start, {seconds:.1f} s to extract", flush=True)
        struck = kill_and_restart(options, out, seconds, started)
        subprocess.run(command(options, out), check=True)
        same = contents(out) == contents(whole)
        sound = subprocess.run([sys.executable, "-m", "clipvil.cli.main", "features", "verify", str(out)], check=False)
        files = len(contents(whole))
        print(f"{struck} kills, {files} files: {'byte-identical' if same else 'DIFFERENT'}")
        return int(not same or sound.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
