"""What distillation costs: a step with cached teachers against a plain one, and the cache against one pass.

    python benchmarks/distillation.py [--recipe mini/entailment-clip-vil-p] [--steps 30] [--repeat 5] [--out FILE]

Both alternatives are real steps of the training loop (batch put together, forward and backward pass, clipping, update)
of the same recipe in one process. They are timed in turn, in processor time (one thread, so that a busy machine counts
less), and of each the fastest repeat is compared. `cache` compares the teachers' first pass over all training pictures
and texts with encoding each picture and each distinct text once.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from clipvil.distillation.text_teachers import TowerTeacher
from clipvil.encoders.registry import create_encoder
from clipvil.environment import hardware
from clipvil.features.extract import extract
from clipvil.images.sources import ListSource
from clipvil.training.devices import create_accelerator
from clipvil.training.distilling import teach
from clipvil.training.inputs import load_datasets, open_features
from clipvil.training.loop import Loop
from clipvil.training.memory import in_memory
from clipvil.training.picture_task import task_of
from clipvil.training.randomness import deterministic, seed_everything
from clipvil.training.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "distillation.csv"
TEACHER = "mini/contrastive"


class Steps:
    """A loop that is driven step by step."""

    def __init__(self, recipe: Recipe, shared: dict[str, Any], out: Path, taught: Any) -> None:
        task, features = shared["task"], shared["features"]
        seed_everything(recipe.seed, "model")
        model = task.build(recipe.model, features.spec).train()
        self.loop = Loop(
            task,
            model,
            shared["records"],
            features,
            recipe,
            out,
            validate=lambda plain: None,  # type: ignore[arg-type, return-value]
            accelerator=create_accelerator(recipe, out),
            quiet=True,
            taught=taught,
        )

    def run(self, steps: int) -> float:
        """Seconds of processor time for so many steps, which are computed in this thread alone."""
        start, position = time.process_time(), self.loop.position
        for _ in range(steps):
            self.loop._step([self.loop.dataset[position.step]])
        return time.process_time() - start


def step_cost(
    recipe: Recipe, shared: dict[str, Any], taught: Any, out: Path, steps: int, repeat: int
) -> dict[str, Any]:
    """Milliseconds of a plain and of a distilled step, and their ratio."""
    plain = Steps(recipe.with_overrides("distillation.weight=0"), shared, out / "plain", None)
    distilled = Steps(recipe, shared, out / "distilled", taught)
    for one in (plain, distilled):
        one.run(5)
    times = [(plain.run(steps), distilled.run(steps)) for _ in range(repeat)]
    best = [1000 * min(one[place] for one in times) / steps for place in (0, 1)]
    ratios = sorted(b / a for a, b in times)
    return {
        "what": "step",
        "plain": round(best[0], 2),
        "distilled": round(best[1], 2),
        "unit": "ms",
        "ratio": round(best[1] / best[0], 3),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_worst": round(ratios[-1], 3),
    }


def pass_cost(recipe: Recipe, shared: dict[str, Any], out: Path) -> tuple[dict[str, Any], Any]:
    """Seconds of the teachers' first pass, against encoding every picture and every text once by themselves."""
    train = shared["datasets"]["train"]
    items = list({item.image_id: item for item in train.images}.values())
    encoder = create_encoder(TEACHER)
    start = time.perf_counter()
    extract(ListSource(items), encoder=encoder, out=out / "pass", resize=recipe.encoder.resize, dtype="float16",
            workers=recipe.features.workers, progress=False)  # fmt: skip
    lessons = shared["task"].teacher_inputs(shared["records"])
    texts = sorted({part for lesson in lessons for part in lesson.parts}, key=len)
    reader = TowerTeacher(encoder.text())  # type: ignore[attr-defined]
    for place in range(0, len(texts), 256):
        reader.encode(texts[place : place + 256])
    once = time.perf_counter() - start
    taught = teach(
        recipe, shared["task"], shared["records"], shared["features"], shared["datasets"], out / "cache", quiet=True
    )
    again = teach(
        recipe, shared["task"], shared["records"], shared["features"], shared["datasets"], out / "cache", quiet=True
    )
    passes = taught.report["seconds_pictures"] + taught.report["seconds_texts"]
    row = {
        "what": "cache",
        "plain": round(once, 2),
        "distilled": round(passes, 2),
        "unit": "s",
        "ratio": round(passes / once, 3),
        "whole_preparation_s": round(taught.seconds, 2),
        "second_time_s": round(again.seconds, 2),
        "texts": len(texts),
        "texts_read": taught.report["texts_read"],
        "texts_read_again": again.report["texts_read"],
    }
    return row, again


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mini/entailment-clip-vil-p")
    parser.add_argument("--data", default="data/mini")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    overrides = [
        "init.recipe=null",
        "encoder.name=mini/annotated",
        "distillation.weight=1",
        f"data.root={arguments.data}",
    ]
    recipe = Recipe.from_file(arguments.recipe, overrides)
    with tempfile.TemporaryDirectory() as folder, deterministic(recipe.training.threads):
        out = Path(folder)
        datasets = load_datasets(recipe.data, ("train", "val"))
        features = open_features(recipe, datasets, out, quiet=True)
        task, records = task_of(recipe), datasets["train"].records
        task.prepare(records)
        held = in_memory(features, [record.image_id for record in records])
        shared = {"task": task, "records": records, "features": held, "datasets": datasets}
        cache, taught = pass_cost(recipe, shared, out)
        rows = [cache]
        for name, more in (("MAD", []), ("naive (all tokens)", ["distillation.selection.policy=all"])):
            chosen = recipe.with_overrides(*more)
            taught.curriculum.choice = chosen.distillation
            row = step_cost(chosen, shared, taught, out / name.split()[0], arguments.steps, arguments.repeat)
            rows.append({**row, "method": name})
    columns = list(dict.fromkeys(["what", "method", *(key for row in rows for key in row)]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"batch_size": recipe.training.batch_size, "torch": torch.__version__, "cpu": hardware()["cpu"]["model"]}
    with arguments.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*columns, *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)
    print(arguments.out.read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    main()
