"""Kills training with SIGKILL at random moments, starts it again, and compares the end with an undisturbed run.

    python benchmarks/kill_training.py --out /tmp/kill_training

Trains Pythia on a miniature world of 200 pictures (real corpus, real features, the ordinary command) once undisturbed,
then, for 0 and 2 loader workers each,

- halved: killed as soon as the checkpoint of step 5 of 10 stands, and resumed;
- killed: killed `--kills` times at random moments between its first step and its end, and resumed each time.

Every run must end in the same bytes: weights, optimiser, predictions, and the log but for its times. Writes one line a
run to benchmarks/results/kill_training.csv; exits 1 when a byte differs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "kill_training.csv"
TIMES = ("seconds", "records_per_second")


def command(folder: Path, run: Path, steps: int, workers: int) -> list[str]:
    """The command line of one run; corpus and features lie in `folder` and are shared."""
    return [
        sys.executable, "-m", "clipvil.cli.main", "train", "mini/vqa", "--out", str(run), "--resume", "--quiet",
        f"data.root={folder / 'data'}", "data.sizes={train: 160, val: 20, test: 20}",
        f"features.store={folder / 'features'}", f"schedule.steps={steps}", "schedule.warmup_steps=2",
        "training.batch_size=64", f"training.evaluate_every={max(steps // 4, 5)}", "training.checkpoint_every=5",
        "training.log_every=3", f"training.loader_workers={workers}",
    ]  # fmt: skip


def start(line: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a run as the leader of a process group."""
    return subprocess.Popen(line, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the process and its loader workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> bool:
    """Whether it happened before the process ended."""
    while process.poll() is None:
        if happened():
            return True
        time.sleep(0.002)
    return False


def finish(line: Sequence[str]) -> float:
    """Run to the end; seconds it took."""
    began = time.monotonic()
    subprocess.run(line, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def halved(line: Sequence[str], run: Path) -> int:
    """Stop at step 5, whatever came after it, and resume. Returns the number of kills."""
    process = start(line)
    kills = 0
    if wait_for(process, (run / "checkpoints" / "checkpoint-5" / "state.json").exists):
        kill(process)
        kills = 1
    for later in (run / "checkpoints").glob("checkpoint-*"):
        if int(later.name.rpartition("-")[2]) > 5:
            shutil.rmtree(later)
    for late in ("result.json", "best.safetensors"):
        (run / late).unlink(missing_ok=True)
    finish(line)
    return kills


def killed(line: Sequence[str], run: Path, kills: int, seconds: float, moments: random.Random) -> int:
    """Kill at random moments of the training itself (`seconds` long when undisturbed), then let it end."""
    done = 0
    while done < kills and not (run / "result.json").exists():
        before = _stamp(run / "recipe.yaml")
        process = start(line)
        # The recipe is written anew when everything is read and the first step is next.
        if wait_for(process, lambda old=before: _stamp(run / "recipe.yaml") != old):  # type: ignore[misc]
            # On average half of what would use up the run: all kills should fall before its end.
            time.sleep(moments.uniform(0, seconds / kills))
            if process.poll() is None:
                kill(process)
                done += 1
        process.wait()
    finish(line)
    return done


def identity(run: Path, steps: int) -> str:
    """sha256 over everything that must be the same."""
    digest = hashlib.sha256()
    last = run / "checkpoints" / f"checkpoint-{steps}"
    names = [last / "model.safetensors", last / "optimiser.safetensors"]
    names += [run / name for name in ("best.safetensors", "predictions_val.jsonl", "predictions_test.jsonl")]
    for path in names:
        digest.update(path.read_bytes())
    for raw in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line = {key: value for key, value in json.loads(raw).items() if key not in TIMES}
        digest.update(json.dumps(line).encode())
    return digest.hexdigest()


def main() -> int:
    """Run all; 0 when every run ended in the same bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the runs")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    moments = random.Random(options.seed)
    rows: list[list[object]] = []
    for steps, kind in ((10, "halved"), (options.steps, "killed")):
        reference = options.out / f"undisturbed-{steps}"
        finish(command(options.out, reference, steps, 0))
        expected = identity(reference, steps)
        seconds = json.loads((reference / "result.json").read_text())["seconds"]
        length = seconds["training"] + seconds["evaluation"]
        for workers in (0, 2):
            run = options.out / f"{kind}-{workers}"
            line = command(options.out, run, steps, workers)
            count = halved(line, run) if kind == "halved" else killed(line, run, options.kills, length, moments)
            same = identity(run, steps) == expected
            rows.append([kind, steps, workers, count, "identical" if same else "DIFFERENT", expected[:16]])
            print(*rows[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["kind", "steps", "loader_workers", "kills", "outcome", "sha256_of_undisturbed"])
        writer.writerows(rows)
    return 0 if all(row[4] == "identical" for row in rows) else 1


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
