"""A corpus of forty drawn pictures with questions, and a recipe that trains on it in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 70, 220), "yellow": (240, 220, 40)}
SPLITS = ("train",) * 6 + ("val", "val", "test", "shifted")


def write_corpus(folder: Path, pictures: int = 40) -> dict[str, Any]:
    """Pictures of one or two squares, two questions each, as a CSV table; returns the data section."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(pictures):
        colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        count = int(rng.integers(1, 3))
        image = Image.new("RGB", (64, 64), (200, 200, 200))
        for k in range(count):
            ImageDraw.Draw(image).rectangle((6 + 30 * k, 20, 26 + 30 * k, 44), fill=COLOURS[colour])
        image.save(folder / f"{number}.png")
        split = SPLITS[number % len(SPLITS)]
        rows.append([f"{number}.png", "what color is it", colour, "color", split])
        rows.append([f"{number}.png", "how many are there", str(count), "count", split])
    with (folder / "questions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["image", "question", "answer", "question_type", "split"], *rows])
    return {"format": "custom", "root": str(folder), "questions": "questions.csv"}


def write_recipe(path: Path, **schedule: Any) -> Path:
    """A recipe small enough for a test: a few hidden units, a few steps."""
    sizes = {"word_size": 8, "lstm_size": 8, "question_hidden": 8, "attention_size": 8, "fusion_size": 8}
    recipe = {
        "task": "vqa",
        "model": {"name": "pythia", "preset": "mini", **sizes, "narrow_size": 8, "wide_size": 8},
        "encoder": {"resize": "square:32"},
        "features": {"precision": "fp32", "workers": 0},
        "schedule": {"steps": 6, **schedule},
        "training": {"batch_size": 8, "evaluate_every": 2},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path
