"""The captioner at its published size: beam search with the cache and without, the scorers, the self-critical reward.

    python benchmarks/captioning.py

Decoding: 10 pictures of 196 cells (14 x 14 of RN50x4), 5 beams, 20 words, 9,488 classes, 6 + 6 layers of 512, random
weights whose captions do not end early. Without the cache every word reads all words before and the picture's keys and
values anew; that is already kinder than the published decoder, which does so for each beam's own copy of the picture.
Both must find the same beams. Training: one step forward and backward over 50 pictures x 5 captions, beside the reward
of those captions. Scorers and reward are those of `caption_metrics.py`, called in this run.

Results go to benchmarks/results/captioning.csv. Exits 1 when the cache makes beam search of 20 words less than 4 times
as fast or changes a caption, the scorers are less than 3 times as fast as pycocoevalcap's or differ by more than 1e-9,
or the reward takes more than a tenth of a step.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import torch

# Beside this file.
from caption_metrics import TOLERANCE, Table, captions, reward, scorers, timed

from clipvil.models.decoding import Decoded, Decoding, decode
from clipvil.models.transformer_captioner import TransformerCaptioner, build

RESULTS = Path(__file__).parent / "results" / "captioning.csv"
FASTER, SCORERS_FASTER, SHARE = 4.0, 3.0, 0.1
WORDS, CHANNELS, CELLS = 9488, 2560, 196


def captioner() -> TransformerCaptioner:
    """The published sizes; outputs spread as those of a trained network, and no caption ends before its length."""
    torch.manual_seed(0)
    model = build({"preset": "published"}, words=WORDS, channels=CHANNELS).eval()
    with torch.no_grad():
        model.output.weight.mul_(8.0)
        model.output.bias[0] = -30.0
    return model


def decoding(table: Table, model: TransformerCaptioner, pictures: int, length: int, repeats: int) -> tuple[float, bool]:
    """How many times as fast the cache makes beam search, and whether both find the same."""
    options = Decoding(method="beam", beams=5, max_length=length)
    cells = torch.randn(pictures, CELLS, CHANNELS).relu()
    with torch.no_grad():
        encoding, memory = timed(lambda: model.encode(cells), repeats)
    what = f"beam 5, {pictures} pictures, {length} words"
    table.add(f"encoding of {pictures} pictures", "clipvil", encoding)
    quick, found = timed(lambda: decode(model, memory, options), repeats)
    table.add(what, "cache", quick)
    slow, plain = timed(lambda: decode(model, memory, options, cache=False), min(2, repeats))
    table.add(what, "without", slow)
    same = same_beams(found, plain)
    print(
        f"beam search is {slow / quick:.1f} times as fast with the cache ({(slow + encoding) / (quick + encoding):.1f} "
        f"times with the encoder counted in both), {'the same' if same else 'OTHER'} captions"
    )
    return slow / quick, same


def same_beams(one: Decoded, other: Decoded) -> bool:
    return torch.equal(one.rows, other.rows) and torch.allclose(one.scores, other.scores, atol=1e-3)


def step(table: Table, model: TransformerCaptioner, pictures: int) -> float:
    """Seconds of forward and backward over `pictures` x 5 captions of 20 tokens."""
    model.train()
    cells = torch.randn(pictures, CELLS, CHANNELS).relu()
    rows = torch.randint(1, WORDS, (pictures * 5, 20))
    inputs = torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :-1]], dim=1)
    start = time.perf_counter()
    model(cells, inputs).gather(2, rows.unsqueeze(2)).mean().neg().backward()
    seconds = time.perf_counter() - start
    table.add(f"step of {pictures} x 5 captions", "clipvil", seconds)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10, help="to caption at a time")
    parser.add_argument("--scored", type=int, default=5000, help="pictures that the scorers judge")
    parser.add_argument("--trained", type=int, default=50, help="pictures of a training step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    table, model = Table(), captioner()
    ratios = [decoding(table, model, options.pictures, length, options.repeats) for length in (20, 10)]
    said, given = captions(options.scored)
    totals = scorers(table, said, given, options.repeats)
    reward(table, said, given, options.repeats)
    spent = min(row["milliseconds"] for row in table.rows if row["what"] == "reward of a step") / 1000
    share = spent / step(table, model, options.trained)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table.rows[0]))
        writer.writeheader()
        writer.writerows(table.rows)
    rival = "pycocoevalcap" if "pycocoevalcap" in totals else "plain"
    faster = totals[rival] / totals["clipvil"]
    print(f"the three scorers: {faster:.1f} times as fast as {rival}; largest difference {table.worst:.1e}")
    print(f"the reward takes {100 * share:.3f} % of a training step's forward and backward pass")
    # At the published length; shorter captions have less to remember.
    quick = ratios[0][0] >= FASTER and all(same for _, same in ratios)
    return 0 if quick and table.worst <= TOLERANCE and faster >= SCORERS_FASTER and share < SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
