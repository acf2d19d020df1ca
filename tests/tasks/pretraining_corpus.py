"""A small pre-training corpus whose sentences can be told from the features of `ColourSource`."""

from __future__ import annotations

from clipvil.datasets.base import Dataset
from clipvil.datasets.pretraining import PretrainingBuilder, PretrainingSequence
from tests.tasks.features import COLORS

SMALL = {"preset": "mini", "hidden": 64, "heads": 4, "layers": 2, "feed_forward": 64}


def colour_sentences(pictures: int, *, start: int = 0) -> PretrainingSequence:
    """Two captions and a question about each picture."""
    builder = PretrainingBuilder()
    for number in range(start, start + pictures):
        color = COLORS[number % 3]
        image = f"{number}/{color}"
        builder.add(image, f"It is {color}.", "mscoco", {})
        builder.add(image, f"there is something {color} here", "mscoco", {})
        builder.add(image, "What color is it?", "vqa", {color: 1.0, f"a {color}": 0.3})
    return builder.finish()


def colour_world() -> dict[str, Dataset]:
    """Splits to train on; there are no picture files."""
    splits = {"train": colour_sentences(30), "val": colour_sentences(12, start=60)}
    return {name: Dataset("colours", name, pairs, {}) for name, pairs in splits.items()}
