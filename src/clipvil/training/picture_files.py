"""Looking at all pictures before training: which can be used, how they are resized, and keeping them resized.

pictures/ (or pictures-<hash>/ in a folder that runs share)
    index.json       shapes and boxes of usable pictures, what failed; a hash of what it was made from
    pixels.bin       resized pictures one after the other, uint8 (3, H, W) each (`pictures.keep: disk` alone)
    failures.jsonl   the pictures that cannot be used, and why
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
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
    middle of an epoch. What was found is kept in `pictures` inside `out`, and taken again as long as files, resize
    policy and encoder are the same. Where the recipe names `features.store`, runs share that folder: each set of
    pictures and way to resize them has a folder of its own in it, `pictures-<hash>`.

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
    key, stamps = _key(rule, encoder), {image_id: _stamp(path) for image_id, path in paths.items()}
    folder = _shared(Path(recipe.features.store), key, paths) if recipe.features.store else out / FOLDER
    index, choice = PictureIndex.read(folder / "index.json", key, stamps), recipe.pictures
    room = choice.keep_mb * 2**20
    if index is not None and choice.keep == "disk" and not _fits(folder, index, room):
        index = None
    kept: np.ndarray | None = None
    if index is None or (retry_failed and index.failures):
        memory = bytearray() if choice.keep == "memory" else None
        decoded = _decoded(items, ready, recipe.features.workers, quiet)
        index = _look(folder, key, stamps, decoded, room if choice.keep != "nowhere" else 0, memory)
        kept = np.frombuffer(memory, dtype=np.uint8) if memory else None
    elif choice.keep == "memory":
        index, kept = _into_memory(index.only(items), items, ready, room, recipe.features.workers)
    if choice.keep == "disk" and index.kept:
        kept = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
    return PictureSource(spec, index, items, ready, resize=rule.name, kept=kept)


def _prepare(item: ImageItem, *, rule: ResizePolicy, preprocess: object, stride: int) -> Resized:
    return prepare(item.read(), rule, preprocess, stride, where=item.where)  # type: ignore[arg-type]


def _key(rule: ResizePolicy, encoder: Encoder) -> str:
    """Stands for how pictures are resized."""
    about = {"resize": rule.name, "stride": encoder.stride, "preprocess": encoder.preprocess.to_json()}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _shared(folder: Path, key: str, paths: Mapping[str, Path]) -> Path:
    """A folder for this use of these pictures alone, among what other runs keep there."""
    names = json.dumps([key, sorted((image_id, str(path)) for image_id, path in paths.items())])
    return folder / f"{FOLDER}-{hashlib.sha256(names.encode()).hexdigest()[:12]}"


def _stamp(path: Path) -> str:
    """Stands for a file: its place, size and time of change."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return str(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _look(
    folder: Path,
    key: str,
    stamps: Mapping[str, str],
    decoded: Iterable[tuple[ImageItem, Resized | Failure]],
    room: int,
    memory: bytearray | None,
) -> PictureIndex:
    """Go through all pictures once; the index is written last.

    The first usable ones, up to `room` bytes, go into `memory` or else into pixels.bin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    ids: list[str] = []
    shapes, boxes, failures = [], [], []
    kept = size = 0
    with atomic_write(folder / "pixels.bin") as stream:
        for item, found in decoded:
            if isinstance(found, Failure):
                failures.append(found)
                continue
            ids.append(item.image_id)
            shapes.append(found.pixels.shape[1:])
            boxes.append(found.visible)
            size += found.pixels.numel()
            if size <= room:
                kept += 1
                data = found.pixels.numpy().tobytes()
                if memory is None:
                    stream.write(data)
                else:
                    memory += data
    if memory is not None or not kept:
        (folder / "pixels.bin").unlink()
    with atomic_write(folder / "failures.jsonl") as stream:
        stream.write("".join(failure.to_line() for failure in failures).encode())
    index = PictureIndex(
        key,
        tuple(ids),
        np.asarray(shapes, dtype=np.int32).reshape(-1, 2),
        np.asarray(boxes, dtype=np.int32).reshape(-1, 4),
        stamps,
        {failure.id: failure.reason for failure in failures},
        kept,
    )
    on_disk = index if memory is None else replace(index, kept=0)
    atomic_write_json(folder / "index.json", on_disk.to_json(), indent=None)
    return index


def _decoded(
    items: Mapping[str, ImageItem], ready: Callable[[ImageItem], Resized], workers: int, quiet: bool
) -> Iterator[tuple[ImageItem, Resized | Failure]]:
    with progress(len(items), "pictures", unit="pictures", quiet=quiet) as bar:
        for pair in decode_ahead(items.values(), ready, workers=workers, ahead=64):
            yield pair
            bar.update()


def _fits(folder: Path, index: PictureIndex, room: int) -> bool:
    """Whether pixels.bin holds as much as is asked for now."""
    ends = index.ends()
    wanted = int(np.searchsorted(ends, room, side="right"))
    if not wanted:
        return True
    path = folder / "pixels.bin"
    return index.kept >= wanted and path.is_file() and path.stat().st_size == int(ends[index.kept - 1])


def _into_memory(
    index: PictureIndex, items: Mapping[str, ImageItem], ready: Callable[[ImageItem], Resized], room: int, workers: int
) -> tuple[PictureIndex, np.ndarray]:
    """The first pictures as bytes, up to `room`: made before loader workers are forked, which then share them."""
    ends = index.ends()
    count = int(np.searchsorted(ends, room, side="right"))
    flat = np.empty(int(ends[count - 1]) if count else 0, dtype=np.uint8)
    wanted = {image_id: items[image_id] for image_id in index.ids[:count]}
    for place, (_, found) in enumerate(_decoded(wanted, ready, workers, True)):
        if isinstance(found, Failure):
            raise UsageError(f"{found.message}; it was readable a moment ago: start again")
        flat[int(ends[place]) - found.pixels.numel() : int(ends[place])] = found.pixels.numpy().ravel()
    return replace(index, kept=count), flat
