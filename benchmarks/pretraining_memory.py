"""Memory and start of a pre-training corpus of two million sentences in LXMERT's format, read by four workers.

    python benchmarks/pretraining_memory.py [--sentences 2000000] [--workers 4] [--batches 400] [--out FOLDER]

Writes a synthetic corpus (50 sentences a picture, a third of them questions with answers; empty files stand for
pictures), then starts two fresh processes one after the other. Each goes the way of the trainer: the data section, the
task `pretraining` with a vocabulary file and an answer table from the corpus, the recipe's sampler (groups of aspects,
four sentences of a picture together), and batches of 512 pairs from forked workers, first of a beginning run, then of
one that goes over the end of an epoch. Grids are small zeros. The first start parses the JSON, the second finds the
table in the cache. All processes are looked at every 50 ms:

- `pss_mb`: the largest sum of proportional set sizes of the workers and the main process: pages that several of them
  map (the table, torch's libraries) count once; must stay below 1500,
- `private_mb`: the largest sum of what the workers have to themselves,
- `rss_mb`: the largest sum of the workers' resident set sizes, where shared pages count once a worker: for comparison,
- `main_rss_mb`: the largest resident set size of the main process, parsing included,
- `imports_s`: from the start of the process until torch is imported, which takes as long without any corpus,
- `opened_s`, `first_batch_s`: from then on until the corpus is open and the answer table built, and until the first
  batch is there, the order of the first epoch included; the second start must have its first batch within 5 s.

One line a start in benchmarks/results/pretraining_memory.csv; exits 1 when a limit is passed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(Path(__file__).parent))

from store_memory import family, memory  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "pretraining_memory.csv"
PER_PICTURE, BATCH = 50, 512
LIMIT_MB, LIMIT_S = 1500, 5.0


def write_corpus(folder: Path, sentences: int) -> None:
    """LXMERT's JSON, and a file a picture."""
    rng = random.Random(0)
    words = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 9))) for _ in range(20_000)]
    answers = [f"answer {number}" for number in range(9_500)]

    def sentence() -> str:
        return " ".join(rng.choices(words, k=rng.randint(6, 14)))

    (folder / "images").mkdir(parents=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    with (folder / "pairs.json").open("w", encoding="utf-8") as stream:
        stream.write("[")
        for number in range(-(-sentences // PER_PICTURE)):
            name = f"COCO_train2014_{number:012d}"
            (folder / "images" / f"{name}.jpg").touch()
            asked = PER_PICTURE // 3
            label = [{rng.choice(answers): 1.0, rng.choice(answers): 0.3} for _ in range(asked)]
            item: dict[str, Any] = {
                "img_id": name,
                "sentf": {
                    "vg": [sentence() for _ in range(PER_PICTURE - asked)],
                    "vqa": [sentence() for _ in range(asked)],
                },
                "labelf": {"vqa": label},
            }
            stream.write((",\n" if number else "") + json.dumps(item))
        stream.write("]")


def grids(channels: int) -> Any:
    """A source of zero grids of 2 x 2 cells, with wide and tall pictures: what is measured is the corpus."""
    import numpy as np
    import torch

    from clipvil.encoders.base import EncoderSpec
    from clipvil.features.base import GridBatch

    class Zeros:
        spec = EncoderSpec("zeros", "0", channels, channels)

        def __contains__(self, image_id: object) -> bool:
            return True

        def batch(self, image_ids: Sequence[str]) -> GridBatch:
            shapes = torch.full((len(image_ids), 2), 2)
            return GridBatch(torch.zeros(len(image_ids), 4, channels), None, shapes)

        def aspects(self, image_ids: Sequence[str], groups: int) -> np.ndarray[Any, Any]:
            return np.array([int(image_id[-6:]) % (2 * groups + 2) for image_id in image_ids])

    return Zeros()


def read(folder: Path, workers: int, batches: int, started: float) -> None:
    """What one process does; prints the time of its first batch and how many pairs it read."""
    import torch  # noqa: F401 - its import takes as long without any corpus
    from accelerate import Accelerator

    from clipvil.datasets.registry import load
    from clipvil.tasks.registry import create_task
    from clipvil.training.loader import StepDataset, training_batches
    from clipvil.training.recipe import Recipe
    from clipvil.training.sampling import create_sampler

    imported = time.time()
    data = {"format": "lxmert", "root": str(folder), "cache": str(folder / "cache")}
    recipe = Recipe.from_values(
        {
            "task": "pretraining",
            "task_settings": {"words": str(folder / "vocab.txt")},
            "data": {**data, "train": {"pairs": "pairs.json", "images": "images"}},
            "pictures": {"aspects": 5, "sentences": 4},
            "training": {"batch_size": BATCH, "loader_workers": workers},
        }
    )
    task = create_task(recipe.task, recipe.task_settings)
    records = task.units(load(recipe.data, "train").records)
    task.prepare(records)
    opened = time.time() - imported
    features = grids(8)
    sampler = create_sampler(recipe, records, features, Accelerator(cpu=True))
    dataset = StepDataset(task, records, features, sampler)
    # The last steps cross from one epoch into the next, whose order is then made while all workers run.
    start = max(0, len(records) // BATCH - batches // 2)
    first, count = 0.0, 0
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    for steps in (range(4), range(start, start + batches)):
        for parts in training_batches(dataset, steps, workers):
            first = first or time.time() - imported
            count += sum(len(part["matched"]) for part in parts)
    seconds = {"imports_s": imported - started, "opened_s": opened, "first_batch_s": first}
    print(json.dumps({**seconds, "pairs": count, "sentences": len(records)}))


class Watch(threading.Thread):
    """Looks at a process and its workers until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peaks = pid, dict.fromkeys(("pss", "private", "rss", "main_rss"), 0)
        self._ended = threading.Event()

    def run(self) -> None:
        """Sample every 50 ms."""
        while not self._ended.wait(0.05):
            main, *workers = [memory(pid) for pid in family(self.pid)]
            workers = [value for value in workers if value]
            now = {
                "rss": sum(value["rss"] for value in workers),
                "private": sum(value["private"] for value in workers),
                "pss": sum(value["pss"] for value in [*workers, *([main] if main else [])]),
                "main_rss": main.get("rss", 0),
            }
            self.peaks = {key: max(value, now[key]) for key, value in self.peaks.items()}

    def end(self) -> None:
        """Stop and wait."""
        self._ended.set()
        self.join()


def measure(folder: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One start in a process of its own."""
    line = [sys.executable, str(Path(__file__).resolve()), "--read", str(folder), "--workers", str(arguments.workers),
            "--batches", str(arguments.batches), "--started", str(time.time())]  # fmt: skip
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ})
    watch = Watch(process.pid)
    watch.start()
    said, _ = process.communicate()
    watch.end()
    if process.returncode:
        raise SystemExit(f"the {name} start ended with exit code {process.returncode}")
    found = json.loads(said)
    table = sum(path.stat().st_size for path in (folder / "cache").glob("*.safetensors"))
    return {
        "start": name,
        "sentences": found["sentences"],
        "json_mb": round((folder / "pairs.json").stat().st_size / 1e6),
        "table_mb": round(table / 1e6),
        "workers": arguments.workers,
        "pairs_read": found["pairs"],
        **{name: round(found[name], 2) for name in ("imports_s", "opened_s", "first_batch_s")},
        **{f"{key}_mb": round(value * 1024 / 1e6) for key, value in watch.peaks.items()},
        "limit_mb": LIMIT_MB,
        "limit_s": LIMIT_S,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--out", type=Path, help="Where the corpus lies for a while; a temporary folder if left out.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read is not None:
        read(arguments.read, arguments.workers, arguments.batches, arguments.started)
        return
    with tempfile.TemporaryDirectory(prefix="clipvil-pretraining-memory-", dir=arguments.out) as name:
        folder = Path(name)
        write_corpus(folder, arguments.sentences)
        lines = [measure(folder, start, arguments) for start in ("first", "second")]
    for line in lines:
        print(line, flush=True)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    if max(line["pss_mb"] for line in lines) >= LIMIT_MB or lines[1]["first_batch_s"] > LIMIT_S:
        raise SystemExit(f"above the limits of {LIMIT_MB} MB or {LIMIT_S} s")


if __name__ == "__main__":
    main()
