"""Peak memory of training from a store of 20 GB with four loader workers.

    python benchmarks/store_memory.py [--out FOLDER] [--gigabytes 20] [--steps 60] [--workers 4]

Writes a store whose shards are sparse (zeros that take no disk, but that reading maps and caches like any other bytes)
and a table of questions about its pictures, trains Pythia on them with the ordinary command, and looks at the main
process and all its workers every 50 ms:

- `private_mb`: memory of their own (Private_Clean + Private_Dirty of /proc/PID/smaps_rollup), summed,
- `pss_mb`: the proportional set size, summed: pages that several processes map (the library, the store, batches on
  their way) count once,
- `unmapped_mb`: growth of the machine's shared memory beyond what they map: batches in the queue between a worker and
  the main process, which belong to nobody. Other programs that use shared memory meanwhile make it too large,
- `peak_mb`: the largest `pss_mb + unmapped_mb` at one moment; must stay below 4000,
- `rss_mb`: the largest sum of resident set sizes, where shared pages count once a process: for comparison.

Two stores: `square` is what CLIP RN50 gives at 224 pixels (7 x 7 x 2048, float16; COCO's train and val come to 25 GB)
with batches of 256; `published` is the grid of the published VQA runs (18 x 31 x 2048, float32) with batches of 32. One
line each in benchmarks/results/store_memory.csv; exits 1 when a peak lies above the limit.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from clipvil.features import layout  # noqa: E402
from clipvil.features.finalise import finalise  # noqa: E402
from clipvil.features.index import ROW, Index  # noqa: E402
from clipvil.features.locked import exclusive_write  # noqa: E402
from clipvil.features.manifest import DTYPES, EncoderEntry, Manifest, PrecisionEntry, items_digest  # noqa: E402
from clipvil.features.shard import CODES, HEADER  # noqa: E402
from clipvil.features.tensorfile import header_bytes  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "store_memory.csv"
LIMIT_MB = 4000
QUESTIONS = 4
ITEM = {"float16": 2, "float32": 4}


@dataclass(frozen=True)
class Case:
    """One store and how it is trained on."""

    name: str
    grid: tuple[int, int]
    channels: int
    dtype: str
    batch: int

    @property
    def picture(self) -> int:
        """Bytes of a picture's grid."""
        return self.grid[0] * self.grid[1] * self.channels * ITEM[self.dtype]


CASES = (Case("square", (7, 7), 2048, "float16", 256), Case("published", (18, 31), 2048, "float32", 32))


def write_store(folder: Path, case: Case, size: int) -> list[str]:
    """A complete store of at least `size` bytes; returns the ids."""
    ids = [f"COCO_train2014_{number:012d}" for number in range(-(-size // case.picture))]
    entry = EncoderEntry(
        name="zeros", fingerprint="0" * 16, layer="last", positions="resized", grid_channels=case.channels,
        pooled_channels=None, stride=None, preprocess=None,
    )  # fmt: skip
    assert case.dtype in DTYPES
    manifest = Manifest.model_validate(
        {
            "encoder": entry, "resize": "square:224", "dtype": case.dtype, "shard_size": 256, "batch_size": 32,
            "precision": PrecisionEntry(choice="fp32", cosine=None, backend="torch", device="cpu"),
            "total": len(ids), "items": items_digest(ids), "source": "zeros",
        }
    )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / layout.MANIFEST).write_bytes(manifest.to_bytes())
    cells, checksum = case.grid[0] * case.grid[1], zlib.crc32(bytes(case.picture))
    for shard in range(manifest.shards):
        count = manifest.shard_length(shard)
        path = layout.shard_data(folder, shard)
        tensors = {"cells": (CODES[case.dtype], (count * cells, case.channels))}
        with path.open("wb") as stream:
            stream.write(header_bytes(tensors, {"format": "clipvil-shard"}, size=HEADER))
            stream.truncate(HEADER + count * case.picture)
        rows = np.zeros(count, ROW)
        rows["shard"], rows["checksum"] = shard, checksum
        rows["height"], rows["width"] = case.grid
        rows["offset"], rows["slot"] = np.arange(count) * cells, np.arange(count)
        index = Index.build(ids[shard * 256 : shard * 256 + count], rows, where=str(path))
        with exclusive_write(layout.shard_index(folder, shard)) as stream:
            index.write(stream)
    finalise(folder, manifest)
    return ids


def write_questions(path: Path, ids: list[str]) -> None:
    """Four questions a picture; a few pictures validate, for the split is judged at the end."""
    words, answers = ("color", "shape", "size", "number"), [f"answer{number}" for number in range(500)]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "question", "answer", "split"])
        for number, image in enumerate(ids):
            split = "val" if number < 256 else "train"
            for k in range(QUESTIONS):
                writer.writerow(
                    [image, f"what {words[k]} is thing {number % 997}", answers[(7 * number + k) % 500], split]
                )


def command(folder: Path, case: Case, steps: int, workers: int) -> list[str]:
    """The command line of the training."""
    return [
        sys.executable, "-m", "clipvil.cli.main", "train", "mini/vqa", "--out", str(folder / "run"), "--quiet",
        f"data={{format: custom, root: {folder}, questions: questions.csv}}", f"encoder.name=store:{folder / 'store'}",
        f"schedule.steps={steps}", "schedule.warmup_steps=2", f"training.batch_size={case.batch}",
        f"training.evaluate_batch_size={case.batch}", f"training.evaluate_every={steps}",
        f"training.loader_workers={workers}",
    ]  # fmt: skip


class Watch(threading.Thread):
    """Looks at a process and its descendants until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peaks, self.processes = pid, dict.fromkeys(("private", "pss", "unmapped", "peak", "rss"), 0), 0
        self._shared = shared_memory()
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample every 50 ms."""
        while not self._ended.wait(0.05):
            found = [value for pid in family(self.pid) if (value := memory(pid))]
            total = {key: sum(value[key] for value in found) for key in ("private", "pss", "rss", "shmem")}
            total["unmapped"] = max(0, shared_memory() - self._shared - total["shmem"])
            total["peak"] = total["pss"] + total["unmapped"]
            self.processes = max(self.processes, len(found))
            self.peaks = {key: max(value, total[key]) for key, value in self.peaks.items()}

    def end(self) -> None:
        """Stop and wait."""
        self._ended.set()
        self.join()


def shared_memory() -> int:
    """kB of shared memory on the machine, mapped or not."""
    return next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "Shmem:" in line)


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def memory(pid: int) -> dict[str, int]:
    """kB of a process; empty when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    if "Pss" not in values:
        return {}
    return {
        "private": values["Private_Clean"] + values["Private_Dirty"],
        "pss": values["Pss"],
        "rss": values["Rss"],
        "shmem": values["Pss_Shmem"],
    }


def measure(case: Case, folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Make a store, train from it, remove it."""
    try:
        ids = write_store(folder / "store", case, int(arguments.gigabytes * 1e9))
        write_questions(folder / "questions.csv", ids)
        size = sum(path.stat().st_size for path in (folder / "store").iterdir())
        on_disk = sum(path.stat().st_blocks * 512 for path in (folder / "store").iterdir())
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        started = time.monotonic()
        process = subprocess.Popen(command(folder, case, arguments.steps, arguments.workers), env=environment)
        watch = Watch(process.pid)
        watch.start()
        code = process.wait()
        watch.end()
        if code:
            raise SystemExit(f"the training of {case.name} ended with exit code {code}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "case": case.name,
        "grid": f"{case.grid[0]}x{case.grid[1]}x{case.channels}",
        "dtype": case.dtype,
        "pictures": len(ids),
        "questions": QUESTIONS * len(ids),
        "store_gb": round(size / 1e9, 2),
        "on_disk_gb": round(on_disk / 1e9, 2),
        "batch_size": case.batch,
        "steps": arguments.steps,
        "read_gb": round(arguments.steps * case.batch * case.picture / 1e9, 2),
        "workers": arguments.workers,
        "processes": watch.processes,
        **{f"{key}_mb": round(value * 1024 / 1e6) for key, value in watch.peaks.items()},
        "limit_mb": LIMIT_MB,
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="Where the stores lie for a while; a temporary folder if left out.")
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    lines = []
    for case in CASES:
        if case.name in arguments.cases:
            folder = Path(tempfile.mkdtemp(prefix="clipvil-store-memory-", dir=arguments.out))
            lines.append(measure(case, folder, arguments))
            print(lines[-1], flush=True)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    if any(int(str(line["peak_mb"])) >= LIMIT_MB for line in lines):
        raise SystemExit(f"above the limit of {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
