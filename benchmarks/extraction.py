"""How fast features are extracted and read, against the way of the published extractors and against the bare encoder.

    python benchmarks/extraction.py [FOLDER] [--pictures 256] [--rounds 3] [--skip-memory] [--skip-backends]

Everything is measured in one run on the same photographs and the same (untrained) weights at the encoder's square size:

baseline   the way of the published extractors: one picture at a time in fp32, decoded and resized by Pillow in the main
           thread, one compressed fp32 file a picture
clipvil    `clipvil extract` with precision auto: from the first picture read to the last shard on disk
bare       the encoder alone in the precision that clipvil chose, on batches that are ready: the ceiling
openvino, onnx   `clipvil extract --backend …`
memory     peak resident memory of an extraction of 500 and of 2,000 pictures, each in a process of its own
read       grids read in random order, from warm cache: the store, one compressed file and one plain file a picture

The methods take turns round by round, so that a noisy machine is noisy for all of them; medians count. Every row goes
to results/extraction.csv; the claims are checked at the end and the exit code is 1 if one fails.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CLIPVIL_SHARED", ROOT.parent / "shared"))
ENCODERS = ("open_clip/RN50:random", "open_clip/ViT-B-32:random")
LEAST_SPEEDUP = {ENCODERS[0]: 2.5, ENCODERS[1]: 4.0}
FIELDS = (
    "measure", "encoder", "method", "precision", "round", "pictures", "value", "unit",
    "threads", "load", "cpu", "flags", "torch",
)  # fmt: skip
Row = dict[str, Any]


def files_of(folder: Path, count: int) -> list[Path]:
    """The first pictures of a folder, in order; exits where there are too few."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    if len(files) < count:
        sys.exit(f"{folder}: {len(files)} pictures, {count} are needed; use --pictures")
    return files


def quiet_encoder(name: str) -> Any:
    import warnings

    from clipvil.encoders.registry import create_encoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return create_encoder(name)


def baseline(encoder: Any, files: list[Path], out: Path) -> float:
    """Seconds for all pictures by the published way."""
    import numpy as np
    import torch
    from PIL import Image

    side = encoder.preprocess.size[0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (encoder.preprocess.mean, encoder.preprocess.std))
    encoder.to(dtype=torch.float32, channels_last=False)
    started = time.perf_counter()
    with torch.no_grad():
        for file in files:
            with Image.open(file) as image:
                picture = image.convert("RGB")
            scale = side / min(picture.size)
            size = (max(side, int(picture.width * scale)), max(side, int(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling.BICUBIC)
            left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
            picture = picture.crop((left, top, left + side, top + side))
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div(255)
            encoded = encoder.encode(((pixels - mean) / std)[None])
            grid = encoded.grid[0].permute(1, 2, 0).numpy()
            np.savez_compressed(out / f"{file.stem}.npz", grid=grid, pooled=encoded.pooled[0].numpy())
    return time.perf_counter() - started


def bare(encoder: Any, batches: list[Any], chosen: str) -> float:
    """Seconds for the same number of pictures with nothing but the forward pass."""
    import torch

    from clipvil.features.precision import apply, named

    ready = apply(encoder, named(chosen, encoder.module), "cpu")
    layout = torch.channels_last if "channels_last" in chosen else torch.contiguous_format
    inputs = [batch.to(next(ready.module.parameters()).dtype).contiguous(memory_format=layout) for batch in batches]
    with torch.inference_mode():
        ready.encode(inputs[0])
        started = time.perf_counter()
        for batch in inputs:
            ready.encode(batch)
        return time.perf_counter() - started


def ready_batches(encoder: Any, source: Any, count: int) -> list[Any]:
    """Normalised batches of 32 pictures."""
    import torch

    from clipvil.images.normalise import normalise
    from clipvil.images.prepare import prepare
    from clipvil.images.resize import policy

    square = policy("square")
    pixels = [
        prepare(item.read(), square, encoder.preprocess, encoder.stride, where=item.where).pixels
        for item in source[:count]
    ]
    whole = normalise(torch.stack(pixels), encoder.preprocess)
    return list(whole.split(32))


def measure_speed(name: str, folder: Path, count: int, rounds: int, backends: list[str]) -> list[Row]:
    """All methods of one encoder, round by round, and reading from what they wrote."""
    from clipvil.features.extract import extract
    from clipvil.images.sources import ImageItem, ListSource
    from clipvil.images.sources.files import FileBytes

    files = files_of(folder, count)
    source = ListSource([ImageItem(file.name, file.name, FileBytes(str(file), 1 << 26)) for file in files])
    encoder, rows = quiet_encoder(name), []
    batches = ready_batches(encoder, source, count)
    chosen = ""

    def add(method: str, precision: str, number: int, seconds: float) -> None:
        rows.append(row("speed", name, method, precision, number, count, count / seconds, "pictures/s"))
        print(f"{name} round {number} {method:<9} {count / seconds:7.2f} pictures/s  {precision}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        for number in range(1, rounds + 1):
            work = Path(temporary) / str(number)
            (work / "files").mkdir(parents=True)
            report = extract(source, encoder=encoder, out=work / "store", progress=number == 1)
            chosen = report.precision
            add("clipvil", chosen, number, report.seconds)
            add("bare", chosen, number, bare(encoder, batches, chosen))
            add("baseline", "fp32", number, baseline(encoder, files, work / "files"))
            for backend in backends:
                report = extract(source, encoder=encoder, out=work / backend, backend=backend, progress=False)
                add(backend, report.precision, number, report.seconds)
                encoder.to(channels_last=False)
        rows += measure_reading(name, work)
    return rows


def measure_reading(name: str, work: Path) -> list[Row]:
    """Random reads of single grids as float32 tensors, and of batches of 64 through the store."""
    import numpy as np
    import torch

    from clipvil.features.store import Store

    store = Store.open(work / "store")
    ids = store.ids()
    (work / "plain").mkdir()
    for image_id in ids:
        np.save(work / "plain" / f"{Path(image_id).stem}.npy", store[image_id].grid.numpy())

    def compressed(image_id: str) -> Any:
        with np.load(work / "files" / f"{Path(image_id).stem}.npz") as arrays:
            return torch.from_numpy(arrays["grid"])

    def plain(image_id: str) -> Any:
        return torch.from_numpy(np.load(work / "plain" / f"{Path(image_id).stem}.npy")).float()

    readers: dict[str, tuple[Callable[[list[str]], Any], int]] = {
        "store": (lambda wanted: store.batch(wanted), 1),
        "store, batches of 64": (lambda wanted: store.batch(wanted), 64),
        "compressed files": (lambda wanted: compressed(wanted[0]), 1),
        "plain files": (lambda wanted: plain(wanted[0]), 1),
    }
    rows, random = [], np.random.default_rng(0)
    for number in (1, 2, 3):
        for method, (read, size) in readers.items():
            done, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < 1.0:
                read([ids[position] for position in random.choice(len(ids), size, replace=False)])
                done += size
            rows.append(row("read", name, method, "float16", number, len(ids), done / elapsed, "grids/s"))
    return rows


def measure_memory(name: str, folder: Path, count: int, base: int) -> list[Row]:
    """Peak resident memory of this process after extracting `count` pictures (the `base` ones again and again)."""
    from clipvil.features.extract import extract

    files = files_of(folder, base)
    with tempfile.TemporaryDirectory() as temporary:
        links = Path(temporary) / "pictures"
        links.mkdir()
        for number in range(count):
            (links / f"{number:05d}.jpg").symlink_to(files[number % base].resolve())
        report = extract(links, encoder=quiet_encoder(name), out=Path(temporary) / "store", progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [row("memory", name, "clipvil", report.precision, 1, count, peak, "MiB")]


def row(
    measure: str, encoder: str, method: str, precision: str, number: int, pictures: int, value: float, unit: str
) -> Row:
    """One line of the results, with what it was measured on."""
    import torch

    from clipvil.environment import cpu

    machine = cpu()
    values = (
        measure, encoder, method, precision, number, pictures, round(value, 3), unit,
        torch.get_num_threads(), round(os.getloadavg()[0], 2), f"{machine['cores']} x {machine['model']}",
        " ".join(machine["flags"]), torch.__version__,
    )  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


def in_child(task: str, **arguments: Any) -> list[Row]:
    """Run one of the measurements in a fresh process."""
    with tempfile.TemporaryDirectory() as temporary:
        answer = Path(temporary) / "rows.json"
        command = [sys.executable, __file__, "--child", task, json.dumps(arguments), str(answer)]
        subprocess.run(command, check=True)
        return list(json.loads(answer.read_text()))


def child(task: str, arguments: str, answer: str) -> None:
    """The other end of `in_child`."""
    options = json.loads(arguments)
    options["folder"] = Path(options["folder"])
    measured = {"speed": measure_speed, "memory": measure_memory}[task](**options)
    Path(answer).write_text(json.dumps(measured))


def claims(rows: list[Row]) -> list[tuple[str, bool | None]]:
    """What the rows show of what is promised: (text, holds), None where the promise does not apply here."""

    def values(measure: str, encoder: str, method: str, pictures: int | None = None) -> list[float]:
        return [
            entry["value"]
            for entry in rows
            if (entry["measure"], entry["encoder"], entry["method"]) == (measure, encoder, method)
            and pictures in (None, entry["pictures"])
        ]

    found: list[tuple[str, bool | None]] = []
    for encoder in ENCODERS:
        ours, ceiling = values("speed", encoder, "clipvil"), values("speed", encoder, "bare")
        old = values("speed", encoder, "baseline")
        speed = {name: statistics.median(got) for name, got in (("o", ours), ("c", ceiling), ("b", old))}
        # Neighbours in time are compared, since the machine's pace changes from round to round.
        share = statistics.median(a / b for a, b in zip(ours, ceiling, strict=True))
        gain = statistics.median(a / b for a, b in zip(ours, old, strict=True))
        found.append(
            (f"{encoder}: {speed['o']:.1f} of {speed['c']:.1f} pictures/s bare, {share:.3f} >= 0.85", share >= 0.85)
        )
        least, native = LEAST_SPEEDUP[encoder], any(entry["precision"].startswith("bf16") for entry in rows)
        text = f"{encoder}: {gain:.2f} times the published way ({speed['b']:.1f} pictures/s)"
        if native:
            found.append((f"{text} >= {least}", gain >= least))
        else:
            found.append((f"{text}; {least} is promised for CPUs with bf16 instructions, which this one lacks", None))
        for backend in ("openvino", "onnx"):
            if got := values("speed", encoder, backend):
                found.append((f"{encoder}: {statistics.median(got):.1f} pictures/s with --backend {backend}", None))
        reads = {m: statistics.median(values("read", encoder, m)) for m in ("store", "compressed files", "plain files")}
        ratio = reads["store"] / reads["compressed files"]
        plain = reads["store"] / reads["plain files"]
        text = f"{encoder}: random reads {reads['store']:.0f}/s, {plain:.1f} times plain files"
        found.append((f"{text}, {ratio:.1f} times compressed files >= 10", ratio >= 10))
        if peaks := values("memory", encoder, "clipvil", 500):
            more = values("memory", encoder, "clipvil", 2000)[0] / peaks[0]
            found.append((f"{encoder}: peak memory at 2000 pictures {more:.3f} times that at 500 <= 1.1", more <= 1.1))
    return found


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=SHARED / "data" / "flickr8k_1000" / "images")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--skip-backends", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "extraction.csv")
    options = parser.parse_args()
    backends = [] if options.skip_backends else ["openvino", "onnx"]
    rows: list[Row] = []
    folder, count = str(options.folder), options.pictures
    for name in ENCODERS:
        rows += in_child("speed", name=name, folder=folder, count=count, rounds=options.rounds, backends=backends)
        for amount in () if options.skip_memory else (500, 2000):
            rows += in_child("memory", name=name, folder=folder, count=amount, base=count)
            print(f"{name} {amount} pictures: peak {rows[-1]['value']:.0f} MiB", flush=True)
    options.out.parent.mkdir(exist_ok=True)
    with options.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    outcome = claims(rows)
    for text, holds in outcome:
        print({True: "holds ", False: "FAILS ", None: "      "}[holds], text)
    return int(any(holds is False for _, holds in outcome))


if __name__ == "__main__":
    sys.exit(main())
