"""How well do the miniature encoders' frozen grids answer the questions of the split val? A check while training them.

    python benchmarks/mini_probe.py CORPUS [--weights FOLDER] [--steps 800] [--only contrastive ...]

Reads train and val of a corpus written by `clipvil mini`, never test or shifted; `clipvil compare mini` is the real
measurement. `blind` is a picture without content: what language alone gives.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor, nn

from clipvil.datasets.registry import load
from clipvil.encoders.base import EncoderSpec
from clipvil.features.base import GridBatch
from clipvil.mini.training.architecture import encode_picture, normalise
from clipvil.records import Question
from clipvil.tasks.vqa import Vqa

ENCODERS = ("blind", "random", "annotated", "contrastive")


class Grids:
    """Grids in memory, as a feature source."""

    def __init__(self, spec: EncoderSpec, cells: dict[str, Tensor], side: int) -> None:
        self.spec, self.cells, self.side = spec, cells, side

    def __contains__(self, key: object) -> bool:
        return key in self.cells

    def batch(self, ids: Sequence[str]) -> GridBatch:
        shapes = torch.full((len(ids), 2), self.side)
        return GridBatch(torch.stack([self.cells[key] for key in ids]).float(), None, shapes)


@torch.no_grad()
def encode(name: str, folder: Path, corpus: Path) -> tuple[dict[str, Tensor], int, int]:
    pictures = {str(int(p.stem[-12:])): p for s in ("train", "val") for p in sorted((corpus / "images" / s).glob("*"))}
    if name == "blind":
        return {key: torch.ones(1, 1) for key in pictures}, 1, 1
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder / name}").eval()
    keys, cells = list(pictures), {}
    for start in range(0, len(keys), 64):
        some = keys[start : start + 64]
        pixels = torch.from_numpy(np.stack([np.asarray(Image.open(pictures[key])) for key in some]))
        grid, _ = encode_picture(model, normalise(pixels))
        cells |= {key: each.flatten(1).T.half() for key, each in zip(some, grid, strict=True)}
    return cells, 512, 4


def train(task: Vqa, grids: Grids, records: list[Question], steps: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = task.build({"name": "pythia", "preset": "mini"}, grids.spec)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps, pct_start=0.1)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        batch = task.collate([records[i] for i in rng.integers(0, len(records), 128)], grids)
        loss = task.loss(model, batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--weights", type=Path, default=Path("src/clipvil/mini/weights"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--only", nargs="*", choices=ENCODERS, default=ENCODERS)
    options = parser.parse_args()
    data = {"format": "mini", "root": str(options.corpus)}
    records = {split: list(load(data, split).records) for split in ("train", "val")}
    for name in options.only:
        task = Vqa({})
        task.prepare(records["train"])
        began = time.perf_counter()
        cells, channels, side = encode(name, options.weights, options.corpus)
        spec = EncoderSpec(name=name, fingerprint=name, grid_channels=channels)
        grids = Grids(spec, cells, side)
        model = train(task, grids, records["train"], options.steps)
        found = []
        for start in range(0, len(records["val"]), 250):
            some = records["val"][start : start + 250]
            found += task.predict(model, task.collate(some, grids), some)
        scores = task.score(found, records["val"])
        print(f"{name}: {scores.overall.value:.1f} in {time.perf_counter() - began:.0f} s", flush=True)
        for groups in scores.breakdowns.values():
            print("   ", ", ".join(f"{group} {score.value:.0f}" for group, score in groups.items()), flush=True)


if __name__ == "__main__":
    main()
