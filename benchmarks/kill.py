"""Kill an extraction with SIGKILL at random moments, start it again each time, and compare with an undisturbed run.

    python benchmarks/kill.py [FOLDER] [--pictures 300] [--kills 10] [--encoder mini/random] [--seed 0]

Prints where each kill struck and what it left, writes it to results/kill_extraction.csv, and exits with 0 only if every
file of the store (but `cost.json`, which holds times) has the bytes of the undisturbed run and `features verify` finds
the store sound.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from clipvil.features.verify import verify

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CLIPVIL_SHARED", ROOT.parent / "shared"))


def run(folder: Path, out: Path, encoder: str, resize: str, shard_size: int) -> None:
    """One extraction. In fp32 by name, because `auto` is timed and might choose otherwise for another store."""
    from clipvil.features.extract import extract

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extract(
            folder, encoder=encoder, out=out, resize=resize, precision="fp32", shard_size=shard_size, progress=False
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "cost.json"}


def kill_and_restart(
    context: ForkServerContext, arguments: tuple[Any, ...], out: Path, kills: int, seconds: float, seed: int
) -> list[dict[str, Any]]:
    """Start the extraction and kill it, `kills` times, each at a random moment of what an undisturbed run takes."""
    moments = random.Random(seed)
    rows: list[dict[str, Any]] = []
    while len(rows) < kills:
        if (out / "index.safetensors").exists():
            shutil.rmtree(out)  # it got through before the kills were used up: once more from the start
        child = context.Process(target=run, args=arguments)
        child.start()
        moment = moments.uniform(0, seconds / 2)
        time.sleep(moment)
        if child.exitcode is not None:
            continue
        child.kill()
        child.join()
        names = sorted(path.name for path in out.iterdir()) if out.exists() else []
        shards = sum(name.endswith(".index.safetensors") for name in names)
        half = [name for name in names if name.startswith(".")]
        rows.append(
            {"kill": len(rows) + 1, "seconds": round(moment, 3), "shards": shards, "half_written": " ".join(half)}
        )
        print(f"kill {len(rows)}: {shards} shards complete, half-written: {', '.join(half) or 'nothing'}", flush=True)
    return rows


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
    # Children fork from a server that has imported everything: the kills strike the work and not the imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["clipvil.features.extract", "clipvil.encoders.open_clip", "torch._dynamo"])
    with tempfile.TemporaryDirectory() as temporary:
        whole, out, links = (Path(temporary) / name for name in ("whole", "killed", "pictures"))
        links.mkdir()
        for path in sorted(options.folder.iterdir())[: options.pictures]:
            (links / path.name).symlink_to(path.resolve())
        settings = (options.encoder, options.resize, options.shard_size)
        context.Process(target=int).start()  # starts the server
        seconds = undisturbed(context, (links, whole, *settings))
        rows = kill_and_restart(context, (links, out, *settings), out, options.kills, seconds, options.seed)
        undisturbed(context, (links, out, *settings))
        same, report = contents(out) == contents(whole), verify(out)
        files = len(contents(whole))
        sound = "sound" if report.ok else "; ".join(report.problems)
        print(f"{options.kills} kills, {files} files: {'byte-identical' if same else 'DIFFERENT'}, {sound}")
        verdict = {"outcome": "byte-identical" if same and report.ok else "different", "encoder": options.encoder}
        save([{**row, **verdict, "pictures": options.pictures} for row in rows])
        return int(not (same and report.ok))


def save(rows: list[dict[str, Any]]) -> None:
    with (ROOT / "benchmarks" / "results" / "kill_extraction.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def undisturbed(context: ForkServerContext, arguments: tuple[Any, ...]) -> float:
    """Seconds of a run that is let through."""
    started = time.monotonic()
    child = context.Process(target=run, args=arguments)
    child.start()
    child.join()
    seconds = time.monotonic() - started
    print(f"let through: exit code {child.exitcode} after {seconds:.1f} s", flush=True)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
