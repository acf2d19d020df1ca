"""What a training step from pictures costs: sentences a picture, native shapes, bf16. Each figure a ratio in one run.

    python benchmarks/pretraining.py [--encoder open_clip/RN50:random] [--repeat 3] [--out FILE]

(a) a step with k sentences about one picture each against a step with k pictures, one sentence each, for k = 1, 4, 16:
    the same number of sentences, so the same work behind the encoder;
(b) pictures in their native shapes, masked, against the published canvas of 384x640 with the padding visible;
(c) bf16 against fp32.

The encoders are those of the paper, without trained weights (speed does not depend on them); the model behind them is
CLIP-ViL_p's body with the sizes of `--layers` and `--hidden`. What k sentences a picture save is at most the encoder's
share of a step, so the dearer encoder shows more. Alternatives are timed in turn in one process, and the fastest of
each is compared.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from clipvil.encoders.base import Encoder, EncoderSpec
from clipvil.encoders.registry import create_encoder
from clipvil.environment import hardware
from clipvil.images.resize import policy
from clipvil.models.clip_vil_p import ClipVilPModel
from clipvil.models.clip_vil_p_config import configure_clip_vil_p
from clipvil.models.grid_trunk import GridTrunk
from clipvil.models.picture_model import PictureModel
from clipvil.training.evaluation import autocast
from clipvil.training.pixels import PictureIndex, PictureSource, PixelBatch

RESULTS = Path(__file__).parent / "results" / "pretraining.csv"
WORDS, TOKENS = 30_522, 20
Step = Callable[[], float]


def pictures(encoder: Encoder, resize: str, sizes: list[tuple[int, int]]) -> PixelBatch:
    """Noise pictures of the given (height, width), resized by a policy."""
    rule, random = policy(resize), np.random.default_rng(0)
    spec = EncoderSpec(encoder.name, "", encoder.grid_channels)
    found = [
        rule.apply(
            Image.fromarray(random.integers(0, 255, size=(*size, 3), dtype=np.uint8)),
            encoder.preprocess,
            encoder.stride,
        )
        for size in sizes
    ]
    ids = tuple(map(str, range(len(sizes))))
    shapes = np.array([one.pixels.shape[1:] for one in found], dtype=np.int32)
    boxes = np.array([one.visible for one in found], dtype=np.int32)
    kept = np.concatenate([one.pixels.numpy().ravel() for one in found])
    index = PictureIndex("", ids, shapes, boxes, {}, {}, kept=len(ids))
    return PictureSource(spec, index, {}, lambda item: found[0], resize=resize, kept=kept).pixels(ids)


def build(arguments: argparse.Namespace, *, cells: int, visible: bool = False) -> PictureModel:
    """The encoder, trained, under a body that sees so many `cells` of a picture (0: all)."""
    torch.manual_seed(0)
    encoder, wide = create_encoder(arguments.encoder), arguments.hidden
    sizes = {"layers": arguments.layers, "hidden": wide, "heads": wide // 64, "feed_forward": 4 * wide}
    config = configure_clip_vil_p({"preset": "base", "keep_cells": cells, **sizes})
    head = ClipVilPModel(config, words=WORDS, channels=encoder.grid_channels, heads=("mlm", "itm"))
    trunk = GridTrunk(encoder, checkpointing=arguments.checkpointing)
    return PictureModel(trunk, head, encoder.preprocess, padding="visible" if visible else "masked").train()


def step(model: PictureModel, found: PixelBatch, sentences: int, precision: str = "no") -> Step:
    """One forward and backward pass with `sentences` about each picture; returns the loss."""
    count = len(found.pixels) * sentences
    tokens = torch.randint(5, WORDS, (count, TOKENS), generator=torch.Generator().manual_seed(1))
    picture = torch.arange(len(found.pixels)).repeat_interleave(sentences)
    batch = {"pixels": found.pixels, "pixel_sizes": found.sizes, "pixel_boxes": found.boxes}

    def run() -> float:
        model.zero_grad(set_to_none=True)
        with autocast(torch.device("cpu"), precision):
            grids = model.encoded(batch)
            out = model.head(
                tokens, torch.ones_like(tokens), grids["cells"], grids.get("mask"), grids["shapes"], picture
            )
            # A seventh of the words, as masked words are.
            words = torch.nn.functional.cross_entropy(out.mlm[:, ::7].flatten(0, 1).float(), tokens[:, ::7].flatten())
            loss = words + torch.nn.functional.cross_entropy(out.itm.float(), torch.zeros(count, dtype=torch.long))
        loss.backward()
        return float(loss)

    return run


def compare(first: Step, second: Step, repeat: int) -> tuple[float, float]:
    """The fastest seconds of each, timed in turn after one that does not count."""
    first(), second()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for run, seconds in zip((first, second), times, strict=True):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return min(times[0]), min(times[1])


def rows(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Every comparison of one encoder, one row each; `ratio` is the second's seconds by the first's."""
    encoder = create_encoder(arguments.encoder)
    model = build(arguments, cells=100)
    out: list[dict[str, object]] = []

    def add(what: str, first: str, second: str, seconds: tuple[float, float]) -> None:
        row = {"comparison": what, "first": first, "second": second, "first_seconds": round(seconds[0], 3)}
        row |= {"second_seconds": round(seconds[1], 3), "ratio": round(seconds[1] / seconds[0], 2)}
        print(arguments.encoder, row, flush=True)
        out.append({**row, "encoder": arguments.encoder})

    for k in (1, 4, 16):
        one = pictures(encoder, arguments.resize, [(384, 512)])
        many = pictures(encoder, arguments.resize, [(384, 512)] * k)
        seconds = compare(step(model, one, k), step(model, many, 1), arguments.repeat)
        add("sentences a picture", f"{k} sentences, 1 picture", f"{k} sentences, {k} pictures", seconds)
    # The commonest sizes of COCO, landscapes as a micro-batch of one aspect group has them.
    sizes = [(480, 640), (427, 640), (480, 640), (360, 640)][: arguments.pictures]
    native = step(build(arguments, cells=0), pictures(encoder, "native:short=384,long=640", sizes), 1)
    whole = build(arguments, cells=0, visible=True)
    padded = step(whole, pictures(encoder, "clipvil-pretrain", sizes), 1)
    add("shapes", "native, masked", "384x640, padding visible", compare(native, padded, arguments.repeat))
    found = pictures(encoder, arguments.resize, [(384, 512)] * 2)
    seconds = compare(step(model, found, 4, "bf16"), step(model, found, 4), arguments.repeat)
    add("precision", "bf16", "fp32", seconds)
    return out


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--encoder", nargs="+", default=["open_clip/RN50:random"])
    parser.add_argument("--resize", default="native:short=384,long=640")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = [
        row for name in arguments.encoder for row in rows(argparse.Namespace(**{**vars(arguments), "encoder": name}))
    ]
    about = {
        "layers": arguments.layers, "hidden": arguments.hidden,
        "cpu": hardware()["cpu"]["model"], "bf16": hardware()["cpu"]["bf16"],
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*found[0], *about], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **about} for row in found)


if __name__ == "__main__":
    main()
