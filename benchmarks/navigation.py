"""Steps a second of the navigation world, on one core.

    python benchmarks/navigation.py --graphs DIR        the real graphs (56 to 90 scans)
    python benchmarks/navigation.py                     random graphs of about their size

Agents of a random policy (half moves, half turns in view; any candidate or none in the panoramic world) walk from
random viewpoints of all scans. A step is the action of the whole batch and reading everything it may need next: count,
place, angles and distances of every place it can go to, and with features also those of the 36 views and of the
candidates (D = 512 and 128 numbers of angles, float32). The policy's own time is not counted. Three rounds each, of
which the middle one is written to benchmarks/results/navigation.csv; exits 1 where a batch of 64 without features is
below 1,000,000 agent-steps a second.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 - it reads the variables when it is imported

from clipvil.datasets.connectivity import Graphs  # noqa: E402
from clipvil.features.panorama import PanoramaFeatures  # noqa: E402
from clipvil.simulator.graph import Graph  # noqa: E402
from clipvil.simulator.simulator import Simulator  # noqa: E402
from clipvil.simulator.world import World  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "navigation.csv"
WANTED = 1_000_000


def random_graphs(scans: int = 90, size: int = 120) -> dict[str, Graph]:
    """Places scattered over a floor, each joined to the nearest, about as many as in the real ones."""
    generator = np.random.default_rng(0)
    out = {}
    for number in range(scans):
        position = generator.random((size, 3)) * [30, 30, 0.5]
        apart = np.linalg.norm(position[:, None] - position[None], axis=-1)
        joined = (apart < np.sort(apart, axis=1)[:, 4:5]) & (apart > 0)
        joined |= joined.T
        degree = joined.sum(axis=1)
        neighbours = np.full((size, int(degree.max())), -1, np.int32)
        for place in range(size):
            neighbours[place, : degree[place]] = np.flatnonzero(joined[place])
        names = tuple(f"{number:02d}{place:04d}" for place in range(size))
        out[f"scan{number:02d}"] = Graph(f"scan{number:02d}", names, np.ones(size, bool), position, neighbours)
    return out


def measure(world: World, batch: int, kind: str, features: PanoramaFeatures | None, seconds: float) -> float:
    """Agent-steps a second of one round."""
    generator = np.random.default_rng(1)
    simulator = Simulator(world)
    simulator.start(generator.choice(np.flatnonzero(world.included), batch))
    count = simulator.locations().count if kind == "in view" else simulator.candidates().count
    draws, turns = generator.random((64, 3, batch)), generator.integers(-1, 2, (64, 2, batch))
    around = None if features is None else features.views(simulator.viewpoint, simulator.view)
    spent, steps = 0.0, 0
    while spent < seconds:
        for (move, which, _), (right, up) in zip(draws, turns, strict=True):
            if kind == "in view":
                action = np.where(move < 0.5, which * count, 0).astype(np.int64)
                began = time.perf_counter()
                simulator.act(action, right, up)
                count = simulator.locations().count
            else:
                action = (which * (count + 1)).astype(np.int64) - 1
                began = time.perf_counter()
                simulator.go(action)
                seen = simulator.candidates()
                count = seen.count
                if features is not None:
                    features.views(simulator.viewpoint, simulator.view, out=around)
                    features.candidates(simulator.viewpoint, seen)
            spent += time.perf_counter() - began
            steps += batch
    return steps / spent


def main() -> int:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=Path, help="folder of connectivity files [default: random graphs]")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    began = time.perf_counter()
    world = World(Graphs(options.graphs) if options.graphs else random_graphs())
    read = time.perf_counter() - began
    began = time.perf_counter()
    world.in_view, world.panoramic  # noqa: B018 - built when first asked for
    tables = time.perf_counter() - began
    source = "real" if options.graphs else "random"
    print(f"{len(world.scans)} {source} scans, {len(world)} viewpoints: read {read:.2f} s, tables {tables:.2f} s")
    values = np.random.default_rng(0).standard_normal((len(world), 36, 512), np.float32)
    features = PanoramaFeatures(values)
    rows, slow = [], False
    for batch in (64, 1024):
        for kind, given in (("in view", None), ("panoramic", None), ("panoramic", features)):
            rounds = sorted(measure(world, batch, kind, given, options.seconds) for _ in range(3))
            name = f"{kind}, {'36 views and candidates with features' if given else 'state and candidates'}"
            rows.append([source, len(world.scans), name, batch, *(round(value) for value in rounds)])
            print(f"{name:<55} batch {batch:>5}  {rounds[1]:>14,.0f} agent-steps/s")
            slow |= given is None and batch == 64 and rounds[1] < WANTED
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["graphs", "scans", "what", "batch", "slowest", "middle", "fastest"])
        writer.writerows(rows)
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
