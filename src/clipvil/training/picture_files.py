"""Looking at all pictures before training: which can be used, how they are resized, and keeping them resized.

    pictures/
        index.json       shapes and boxes of usable pictures, what failed; a hash of what it was made from
        pixels.bin       resized pictures one after the other, uint8 (3, H, W) each (`pictures.keep: disk` alone)
        failures.jsonl   the pictures that cannot be used, and why
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import UsageError
from clipvil.features.batches import decode_ahead
from clipvil.features.shard import Failure
from clipvil.files import atomic_write, atomic_write_json
from clipvil.images.policy import Resized
from clipvil.images.prepare import prepare
from clipvil.images.resize import policy
from clipvil.images.sources import ImageItem
from clipvil.progress import progress
from clipvil.training.inputs import BLIND, encoder_of
from clipvil.training.pixels import PictureIndex, PictureSource

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset
    from clipvil.encoders.base import Encoder
    from clipvil.images.policy import ResizePolicy
    from clipvil.training.recipe import Recipe

FOLDER = "pictures"


def open_pictures(
    recipe: Recipe, datasets: Mapping[str, Dataset], out: Path, *, retry_failed: bool = False, quiet: bool = False
) -> PictureSource:
    """The pictures of the datasets for a recipe with `features.source: pictures`.

    Every picture is decoded once before training, so that a broken one is counted and left out and not met in the
    middle of an epoch. What was found is kept in `pictures` inside `out`, or in the folder `features.store`, and taken
    again as long as files, resize policy and encoder are the same.

    Raises:
        UsageError: the encoder is none (question-only, a store).
        EncoderError: as from `create_encoder`.
    """
    if recipe.encoder.name == BLIND:
        raise UsageError(f"encoder {BLIND} looks at no pictures: features.source must be store")
    encoder, rule = encoder_of(recipe.encoder), policy(recipe.encoder.resize)
    spec = EncoderSpec(encoder.name, encoder.fingerprint(), encoder.grid_channels, encoder.pooled_channels)
    items = {item.image_id: item for dataset in datasets.values() for item in dataset.images}
    paths = {image_id: path for dataset in datasets.values() for image_id, path in dataset.pictures.items()}
    ready = partial(_prepare, rule=rule, preprocess=encoder.preprocess, stride=encoder.stride)
    folder = Path(recipe.features.store) if recipe.features.store else out / FOLDER
    key = _key(paths, rule, encoder)
    index = PictureIndex.read(folder / "index.json", key)
    choice = recipe.pictures
    if index is not None and choice.keep == "disk" and not _fits(folder, index, choice.keep_mb):
        index = None
    if index is None or (retry_failed and index.failures):
        kept_on_disk = choice.keep_mb * 2**20 if choice.keep == "disk" else 0
        index = _look(folder, key, items, ready, kept_on_disk, workers=recipe.features.workers, quiet=quiet)
    kept: np.ndarray | None = None
    if choice.keep == "disk" and index.kept:
        kept = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
    elif choice.keep == "memory":
        index, kept = _into_memory(index, items, ready, choice.keep_mb * 2**20, recipe.features.workers)
    return PictureSource(spec, index, items, ready, resize=rule.name, kept=kept)


def _prepare(item: ImageItem, *, rule: ResizePolicy, preprocess: object, stride: int) -> Resized:
    return prepare(item.read(), rule, preprocess, stride, where=item.where)  # type: ignore[arg-type]


def _key(paths: Mapping[str, Path], rule: ResizePolicy, encoder: Encoder) -> str:
    """Stands for all that the resized pictures depend on; of files, their place, size and time of change."""
    about = {"resize": rule.name, "stride": encoder.stride, "preprocess": encoder.preprocess.to_json()}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for image_id, path in paths.items():
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns]
        except (OSError, ValueError):
            stamp = []
        digest.update(json.dumps([image_id, str(path), stamp]).encode())
    return digest.hexdigest()


def _look(
    folder: Path,
    key: str,
    items: Mapping[str, ImageItem],
    ready: Callable[[ImageItem], Resized],
    keep: int,
    *,
    workers: int,
    quiet: bool,
) -> PictureIndex:
    """Decode every picture once; the first usable ones, up to `keep` bytes, go into pixels.bin. The index comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    ids: list[str] = []
    shapes, boxes, failures = [], [], []
    kept = room = 0
    with atomic_write(folder / "pixels.bin") as stream:
        for item, found in _decoded(items, ready, workers, quiet):
            if isinstance(found, Failure):
                failures.append(
                    {"id": found.image_id, "path": found.where, "reason": found.reason, "message": found.message}
                )
                continue
            ids.append(item.image_id)
            shapes.append(found.pixels.shape[1:])
            boxes.append(found.visible)
            room += found.pixels.numel()
            if room <= keep:
                stream.write(found.pixels.numpy().tobytes())
                kept += 1
    if not kept:
        (folder / "pixels.bin").unlink()
    with atomic_write(folder / "failures.jsonl") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in failures)
    index = PictureIndex(
        key,
        tuple(ids),
        np.asarray(shapes, dtype=np.int32).reshape(-1, 2),
        np.asarray(boxes, dtype=np.int32).reshape(-1, 4),
        tuple(failures),
        kept,
    )
    atomic_write_json(folder / "index.json", index.to_json(), indent=None)
    return index


def _decoded(
    items: Mapping[str, ImageItem], ready: Callable[[ImageItem], Resized], workers: int, quiet: bool
) -> Iterator[tuple[ImageItem, Resized | Failure]]:
    with progress(len(items), "pictures", unit="pictures", quiet=quiet) as bar:
        for pair in decode_ahead(items.values(), ready, workers=workers, ahead=64):
            yield pair
            bar.update()


def _fits(folder: Path, index: PictureIndex, megabytes: int) -> bool:
    """Whether pixels.bin holds as much as is asked for now."""
    ends = index.ends()
    wanted = int(np.searchsorted(ends, megabytes * 2**20, side="right"))
    if not wanted:
        return True
    path = folder / "pixels.bin"
    return index.kept >= wanted and path.is_file() and path.stat().st_size == int(ends[index.kept - 1])


def _into_memory(
    index: PictureIndex, items: Mapping[str, ImageItem], ready: Callable[[ImageItem], Resized], keep: int, workers: int
) -> tuple[PictureIndex, np.ndarray]:
    """The first pictures as bytes, up to `keep`: made before loader workers are forked, which then share them."""
    from dataclasses import replace

    ends = index.ends()
    count = int(np.searchsorted(ends, keep, side="right"))
    flat = np.empty(int(ends[count - 1]) if count else 0, dtype=np.uint8)
    wanted = {image_id: items[image_id] for image_id in index.ids[:count]}
    for place, (_, found) in enumerate(_decoded(wanted, ready, workers, True)):
        if isinstance(found, Failure):
            raise UsageError(f"{found.message}; it was readable a moment ago: start again")
        flat[int(ends[place]) - found.pixels.numel() : int(ends[place])] = found.pixels.numpy().ravel()
    return replace(index, kept=count), flat
