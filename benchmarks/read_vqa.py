"""Reads a VQA v2 of full size (443,757 questions, ten answers each) as a run does: the first time and the second time.

    python benchmarks/read_vqa.py --out /tmp/read_vqa

Writes synthetic files in the official format (about 400 MB), then reads them in fresh processes: with an empty cache,
with the cache that left behind, and with the cache turned off. Each time covers import, reading, and the first and last
record; memory is the peak of the whole process. Results go to benchmarks/results/read_vqa.csv; exits 1 when the first
reading takes 15 s or 1.5 GB or more, the second 1 s or more, or when they disagree about a record.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import synthetic_vqa

RESULTS = Path(__file__).parent / "results" / "read_vqa.csv"
SECONDS, MEGABYTES, AGAIN = 15.0, 1500.0, 1.0


def child(folder: Path) -> None:
    """Read the corpus in this process and print what it took."""
    began = time.perf_counter()
    from clipvil.datasets.registry import load

    entry = {"questions": "questions.json", "annotations": "annotations.json", "template": "COCO_{:012d}.jpg"}
    data = load({"format": "vqa_v2", "root": str(folder), "train": entry}, "train")
    first, last = data.records[0], data.records[-1]
    seconds = time.perf_counter() - began
    peak = peak_megabytes()
    began = time.perf_counter()
    answers = sum(len(record.answers) for record in data.records)
    through = time.perf_counter() - began
    said = {
        "seconds": round(seconds, 3),
        "peak_megabytes": round(peak),
        "records": len(data.records),
        "pictures": len(data.pictures),
        "answers": answers,
        "seconds_to_visit_all": round(through, 3),
        "ends": [repr(first), repr(last), repr(data.records[len(data.records) // 2])],
    }
    print(json.dumps(said))


def peak_megabytes() -> float:
    """Peak memory of this process. Not from getrusage, which starts from the size of the process that forked it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def run(folder: Path, cache: str) -> dict[str, Any]:
    """`child` in a fresh process."""
    line = [sys.executable, __file__, "--child", "--out", str(folder)]
    done = subprocess.run(
        line, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "CLIPVIL_CACHE": cache}
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> int:
    """Run all; 0 when the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the files (500 MB)")
    parser.add_argument("--questions", type=int, default=synthetic_vqa.TRAIN)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.out)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    files = synthetic_vqa.write(options.out, options.questions)
    size = sum(path.stat().st_size for path in files)
    time.sleep(3)  # files younger than two seconds are looked at more closely than those of any real corpus
    cache = options.out / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    runs = {"first": run(options.out, str(cache)), "second": run(options.out, str(cache))}
    runs["cache off"] = run(options.out, "off")
    same = len({json.dumps(found["ends"]) for found in runs.values()}) == 1
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        names = [name for name in runs["first"] if name != "ends"]
        writer.writerow(["reading", "megabytes_of_json", *names, "same_records"])
        for name, found in runs.items():
            writer.writerow([name, round(size / 1e6), *(found[key] for key in names), same])
    print(RESULTS.read_text(encoding="utf-8"), end="")
    first, second = runs["first"], runs["second"]
    kept = first["seconds"] < SECONDS and first["peak_megabytes"] < MEGABYTES and second["seconds"] < AGAIN and same
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
