"""Whole, plausible results made without any run, for the tests of table, wording and report."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageDraw

from clipvil.compare.results import (
    Cell,
    Costs,
    Curve,
    EncoderRow,
    GalleryAnswer,
    GalleryEntry,
    GalleryGroup,
    Interval,
    PairDifference,
    Reference,
    Results,
    Row,
    SeedScore,
    TaskInfo,
)

# label -> scores on test and shifted
SCORES = {
    "mini/contrastive": (71.3, 58.9),
    "mini/annotated": (67.1, 57.8),
    "mini/random": (50.0, 42.5),
    "question-only": (41.2, 33.0),
}
TYPES = {"yes/no": 9.0, "number": -12.0, "other": -3.0}
QUESTION_TYPES = (
    "what color is the",
    "how many",
    "is there a",
    "what is the background",
    "what texture is the",
    "is the",
    "what is left of the",
    "what shape is",
)


def thumbnail(seed: int) -> str:
    """A small drawn JPEG in base64."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (128, 128), tuple(int(v) for v in rng.integers(120, 240, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, r = (int(v) for v in rng.integers(10, 90, 3))
        draw.ellipse((x, y, x + r // 2 + 8, y + r // 2 + 8), fill=tuple(int(v) for v in rng.integers(0, 255, 3)))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode()


def _interval(value: float, half: float, n: int) -> Interval:
    return Interval(value=value, low=value - half, high=value + half, n=n)


def _rows(scores: dict[str, tuple[float, ...]], splits: tuple[str, ...]) -> list[Row]:
    rng = np.random.default_rng(0)
    rows = []
    for label, values in scores.items():
        for split, value in zip(splits, values, strict=False):
            spread = {name: _interval(value + shift, 1.9, 1200) for name, shift in TYPES.items()}
            kinds = {name: _interval(value + float(rng.normal(0, 9)), 3.0, 400) for name in QUESTION_TYPES}
            seeds = [
                SeedScore(seed=s, value=value + d, low=value + d - 1.2, high=value + d + 1.2, n=3600)
                for s, d in ((0, 0.6), (1, -0.6))
            ]
            row = Row(
                encoder=label,
                task="vqa",
                split=split,
                per_seed=seeds,
                mean=_interval(value, 1.1, 3600),
                breakdowns={"answer_type": spread, "question_type": kinds},
                training_seconds=41.5,
            )
            rows.append(row)
    return rows


def _differences(scores: dict[str, tuple[float, ...]], splits: tuple[str, ...]) -> list[PairDifference]:
    labels = list(scores)
    out = []
    for place, split in enumerate(splits):
        for i, a in enumerate(labels):
            for b in labels[i + 1 :]:
                value = scores[a][place] - scores[b][place]
                clear = abs(value) > 1.5
                out.append(
                    PairDifference(
                        task="vqa",
                        split=split,
                        a=a,
                        b=b,
                        value=value,
                        low=value - 1.5,
                        high=value + 1.5,
                        p=0.0005 if clear else 0.14,
                        n=3600,
                        seeds=[0, 1],
                    )
                )
    return out


def _gallery(labels: list[str], prompt: str) -> list[GalleryGroup]:
    groups = []
    titles = ("Every encoder right", "Only the first right", "The first wrong, another right", "Every encoder wrong")
    for number, title in enumerate(titles):
        entries = []
        for k in range(4):
            answers = [
                GalleryAnswer(
                    encoder=label,
                    answer=("red", "purple", "2")[(i + k) % 3],
                    confidence=0.9 - 0.17 * i,
                    score=(100.0, 0.0, 30.0, 60.0)[(i + number) % 4],
                )
                for i, label in enumerate(labels)
            ]
            references = [Reference(answer="red", count=8), Reference(answer="crimson", count=2)]
            entries.append(
                GalleryEntry(
                    record_id=f"{number}-{k}",
                    image_id=f"test/{number}{k}.png",
                    prompt=prompt,
                    references=references,
                    answers=answers,
                    thumbnail=thumbnail(number * 10 + k),
                )
            )
        groups.append(GalleryGroup(task="vqa", split="test", title=title, share=0.25, total=3600, entries=entries))
    return groups


def _encoders(labels: list[str], costs: dict[str, Costs]) -> list[EncoderRow]:
    same = Costs(parameters=1_062_144, gflops=0.21, pictures_per_second=412.0, store_bytes=8_960)
    return [
        EncoderRow(
            label=label,
            name=label,
            slug=label.replace("/", "-"),
            floor=label == "question-only",
            resize="square",
            fingerprint="" if label == "question-only" else "0123456789abcdef",
            grid="4 x 4 x 256",
            costs=Costs() if label == "question-only" else costs.get(label, same),
        )
        for label in labels
    ]


def _curves(scores: dict[str, tuple[float, ...]]) -> list[Curve]:
    rng = np.random.default_rng(3)
    return [
        Curve(
            encoder=label,
            task="vqa",
            seed=seed,
            best_step=900,
            points=[
                (s, values[0] * (1 - 0.6 * np.exp(-s / 250)) + float(rng.normal(0, 0.6))) for s in range(100, 1100, 100)
            ],
        )
        for label, values in scores.items()
        for seed in (0, 1)
    ]


def _cells(labels: list[str]) -> list[Cell]:
    return [
        Cell(
            encoder=label,
            task="vqa",
            seed=seed,
            path=f"cells/vqa/{label}/seed-{seed}",
            status="done",
            seconds=52.0,
            training_seconds=41.5,
        )
        for label in labels
        for seed in (0, 1)
    ]


def build(
    scores: dict[str, tuple[float, ...]] | None = None,
    *,
    splits: tuple[str, ...] = ("test", "shifted"),
    prompt: str = "What color is the large striped heart that is left of the ring?",
    costs: dict[str, Costs] | None = None,
) -> Results:
    """A finished comparison with the given scores (label -> one score a split); `question-only` is the floor."""
    scores = SCORES if scores is None else scores
    task = TaskInfo(
        name="vqa",
        task="vqa",
        metric="vqa_accuracy",
        mode="official",
        splits=list(splits),
        data="mini, seed 0",
        fingerprints={"train": "abc123", **dict.fromkeys(splits, "def456")},
        sizes={"train": 24000, **dict.fromkeys(splits, 3600)},
        recipe={"task": "vqa", "schedule": {"steps": 1000}},
    )
    return Results(
        name="mini",
        title="Three encoders on the miniature world",
        command="clipvil compare mini --out runs/mini",
        started="2026-01-02T03:04:05Z",
        updated="2026-01-02T03:11:05Z",
        wall_seconds=417.0,
        environment={
            "clipvil": "0.1.0",
            "python": "3.11.7",
            "platform": "Linux",
            "memory_gib": 24.0,
            "cpu": {"model": "Example CPU", "cores": 2},
            "packages": {"torch": "2.14.1", "timm": None},
        },
        protocol=["Every encoder is frozen.", "The step is chosen on val."],
        suite={"name": "mini"},
        reference=next(iter(scores), ""),
        encoders=_encoders(list(scores), costs or {}),
        tasks=[task],
        rows=_rows(scores, splits),
        differences=_differences(scores, splits),
        curves=_curves(scores),
        gallery=_gallery(list(scores), prompt),
        cells=_cells(list(scores)),
    )
