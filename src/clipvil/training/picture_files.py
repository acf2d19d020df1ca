"""Looking at all pictures before training: which can be used, how they are resized, and keeping them resized.

pictures/
    index.json       shapes, boxes and checksums of usable pictures, what failed; a hash of how they are resized
    pixels.bin       resized pictures one after the other, uint8 (3, H, W) each (`pictures.keep: disk` alone)
    failures.jsonl   the pictures that cannot be used, and why

Runs may share the folder (`features.store`): each adds the pictures that are not there yet, and takes none away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import StoreError, UsageError
from clipvil.features.batches import decode_ahead
from clipvil.features.locked import exclusive_write
from clipvil.features.shard import Failure
from clipvil.files import atomic_write
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
INDEX, PIXELS, FAILURES = "index.json", "pixels.bin", "failures.jsonl"


def open_pictures(
    recipe: Recipe, datasets: Mapping[str, Dataset], out: Path, *, retry_failed: bool = False, quiet: bool = False
) -> PictureSource:
    """The pictures of the datasets for a recipe with `features.source: pictures`.

    Every picture is decoded once before training, so that a broken one is counted and left out and not met in the
    middle of an epoch. What was found is kept in `pictures` inside `out`, or in the folder `features.store`, and taken
    again as long as files, resize policy and encoder are the same.

    Raises:
        UsageError: the encoder is none (question-only, a store).
        StoreError: `features.store` is a feature store, or holds pictures that were resized otherwise.
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
    looking = Looking(
        folder,
        _key(rule, encoder),
        items,
        {image_id: _stamp(path) for image_id, path in paths.items()},
        ready,
        recipe.pictures.keep,
        recipe.pictures.keep_mb * 2**20,
        recipe.features.workers,
        quiet,
        shared=recipe.features.store is not None,
    )
    index = looking.index(retry_failed=retry_failed)
    if recipe.pictures.keep == "memory":
        index, flat = looking.in_memory(index)
        return PictureSource(spec, index, items, ready, resize=rule.name, kept=flat)
    file = folder / PIXELS if recipe.pictures.keep == "disk" and index.kept else None
    kept = np.memmap(file, dtype=np.uint8, mode="r") if file else None
    return PictureSource(spec, index, items, ready, resize=rule.name, kept=kept, file=file)


def _prepare(item: ImageItem, *, rule: ResizePolicy, preprocess: object, stride: int) -> Resized:
    return prepare(item.read(), rule, preprocess, stride, where=item.where)  # type: ignore[arg-type]


def _key(rule: ResizePolicy, encoder: Encoder) -> str:
    """Stands for how pictures are resized."""
    about = {"resize": rule.name, "stride": encoder.stride, "preprocess": encoder.preprocess.to_json()}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path) -> str:
    """Stands for a file: its place, size and time of change."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return str(path)
    return f"{path} {status.st_size} {status.st_mtime_ns}"


@dataclass
class Looking:
    """Looking at pictures once, and adding what is found to what the folder knows already."""

    folder: Path
    key: str
    items: Mapping[str, ImageItem]
    stamps: Mapping[str, str]
    ready: Callable[[ImageItem], Resized]
    keep: str
    room: int
    """Bytes of resized pictures that are kept, in memory or in the file (there those of other uses count too)."""
    workers: int
    quiet: bool
    shared: bool
    """Whether the folder may also be another run's: then nothing is thrown away there."""
    held: dict[str, Tensor] = field(default_factory=dict)
    """Pictures that were decoded just now and stay in memory."""

    def index(self, *, retry_failed: bool = False) -> PictureIndex:
        """The index of the folder with all of `items` in it. Raises StoreError for a folder of something else."""
        if (self.folder / "manifest.json").exists():
            raise StoreError(
                f"{self.folder}: is a feature store, and features.source is pictures; name another features.store"
            )
        known = self._known()
        if not self._open(known, retry_failed):
            return known
        self.folder.mkdir(parents=True, exist_ok=True)
        # The lock is held while pictures are looked at: who waits finds them there.
        with exclusive_write(self.folder / INDEX) as stream:
            known = self._known()
            found = self._added(known, self._open(known, retry_failed))
            stream.write(json.dumps(found.to_json()).encode())
        return found

    def in_memory(self, index: PictureIndex) -> tuple[PictureIndex, np.ndarray]:
        """The pictures asked for, the first of them as bytes, up to `room`: made before loader workers are forked,

        which then share them.
        """
        mine = index.only(self.items)
        ends = mine.ends()
        count = int(np.searchsorted(ends, self.room, side="right"))
        flat = np.empty(int(ends[count - 1]) if count else 0, dtype=np.uint8)
        places = {image_id: place for place, image_id in enumerate(mine.ids[:count])}
        missing = {image_id: self.items[image_id] for image_id in places if image_id not in self.held}
        decoded = ((item.image_id, self._readable(found)) for item, found in self._decoded(missing, quiet=True))
        here = ((image_id, self.held.pop(image_id)) for image_id in [*self.held] if image_id in places)
        for image_id, pixels in chain(here, decoded):
            end = int(ends[places[image_id]])
            flat[end - pixels.numel() : end] = pixels.numpy().ravel()
        return replace(mine, kept=count), flat

    def _known(self) -> PictureIndex:
        """What the folder knows; nothing where it was made for another resize policy and is nobody else's."""
        known = PictureIndex.read(self.folder / INDEX)
        if known is not None and known.key != self.key:
            if self.shared:
                raise StoreError(
                    f"{self.folder}: holds pictures that were resized by another policy or for another encoder; name "
                    "another features.store, or remove this one"
                )
            known = None
        if known is None:
            nothing = np.zeros((0, 4), dtype=np.int32)
            return PictureIndex(self.key, (), nothing[:, :2], nothing, {}, {})
        file = self.folder / PIXELS
        whole = not known.kept or (file.is_file() and file.stat().st_size >= int(known.ends()[known.kept - 1]))
        return known if whole else known.unkept()

    def _open(self, known: PictureIndex, retry_failed: bool) -> list[str]:
        """The pictures to look at: new, changed, failed where those are tried again, and where there is room to keep

        them in the file those that are not kept.
        """
        again = {image_id for image_id in self.items if known.stamps.get(image_id) != self.stamps.get(image_id)}
        again |= {image_id for image_id in known.failures if retry_failed and image_id in self.items}
        if self.keep == "disk":
            ends = known.ends()
            size = int(ends[known.kept - 1]) if known.kept else 0
            for row in range(known.kept, len(known.ids)):
                size += int(ends[row] - (ends[row - 1] if row else 0)) if known.ids[row] in self.items else 0
                if size > self.room:
                    break
                again |= {known.ids[row]} & self.items.keys()
        return [image_id for image_id in self.items if image_id in again]

    def _added(self, known: PictureIndex, asked: list[str]) -> PictureIndex:
        """What is known with the pictures asked, which are looked at now."""
        again = set(asked)
        rows = [row for row, image_id in enumerate(known.ids) if image_id not in again]
        kept = sum(row < known.kept for row in rows)
        head, tail = _Found.of(known, rows[:kept]), _Found.of(known, rows[kept:])
        loose = _Found()
        failures: list[Failure] = []
        with self._pixels(known, rows[:kept]) as stream:
            size = stream.tell()
            held = 0
            for item, found in self._decoded({image_id: self.items[image_id] for image_id in asked}, quiet=self.quiet):
                if isinstance(found, Failure):
                    failures.append(found)
                    continue
                fits = found.pixels.numel() <= self.room - (size if self.keep == "disk" else held)
                if fits and self.keep == "disk":
                    data = found.pixels.numpy().tobytes()
                    stream.write(data)
                    size += len(data)
                    head.add(item.image_id, found, zlib.crc32(data))
                    continue
                if fits and self.keep == "memory":
                    held += found.pixels.numel()
                    self.held[item.image_id] = found.pixels
                loose.add(item.image_id, found)
        self._write_failures(known, again, failures)
        parts = (head, loose, tail)
        reasons = {key: reason for key, reason in known.failures.items() if key not in again}
        return PictureIndex(
            self.key,
            tuple(image_id for part in parts for image_id in part.ids),
            np.asarray([shape for part in parts for shape in part.shapes], dtype=np.int32).reshape(-1, 2),
            np.asarray([box for part in parts for box in part.boxes], dtype=np.int32).reshape(-1, 4),
            {**known.stamps, **self.stamps},
            reasons | {failure.id: failure.reason for failure in failures},
            len(head.ids),
            np.asarray(head.sums, dtype=np.uint32),
        )

    @contextlib.contextmanager
    def _pixels(self, known: PictureIndex, rows: list[int]) -> Iterator[IO[bytes]]:
        """The file of pixels, at the end of the pictures `rows` of it, which are the first there.

        They are left where they are, as other runs may read them, and what is written comes behind; where one between
        them was changed, the file is made anew of the others.
        """
        path = self.folder / PIXELS
        ends = known.ends()
        end = int(ends[len(rows) - 1]) if rows else 0
        if rows == list(range(known.kept)) and (rows or self.keep != "disk"):
            with path.open("r+b") if rows else Path(os.devnull).open("wb") as stream:
                stream.seek(end)
                yield stream
                if rows and stream.tell() > end:
                    stream.flush()
                    os.fsync(stream.fileno())
            return
        # An index of the old file would be wrong about the new one.
        (self.folder / INDEX).unlink(missing_ok=True)
        with atomic_write(path) as stream:
            old = np.memmap(path, dtype=np.uint8, mode="r") if rows else None
            for row in rows:
                assert old is not None
                stream.write(old[int(ends[row - 1]) if row else 0 : int(ends[row])].tobytes())
            yield stream
        if not path.stat().st_size:
            path.unlink()

    def _write_failures(self, known: PictureIndex, again: set[str], failures: list[Failure]) -> None:
        path = self.folder / FAILURES
        before: list[Failure] = []
        if known.failures and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            before = [Failure.from_line(line, where=str(path)) for line in lines]
        stay = [failure for failure in before if failure.id in known.failures and failure.id not in again]
        with atomic_write(path) as stream:
            stream.write("".join(failure.to_line() for failure in [*stay, *failures]).encode())

    def _decoded(self, items: Mapping[str, ImageItem], *, quiet: bool) -> Iterator[tuple[ImageItem, Resized | Failure]]:
        with progress(len(items), "pictures", unit="pictures", quiet=quiet) as bar:
            for pair in decode_ahead(items.values(), self.ready, workers=self.workers, ahead=64):
                yield pair
                bar.update()

    @staticmethod
    def _readable(found: Resized | Failure) -> Tensor:
        if isinstance(found, Failure):
            raise UsageError(f"{found.message}; it was readable a moment ago: start again")
        return found.pixels


@dataclass
class _Found:
    """Pictures in order: what an index says of each."""

    ids: list[str] = field(default_factory=list)
    shapes: list[Any] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, known: PictureIndex, rows: list[int]) -> _Found:
        """Some of the rows of an index."""
        sums = known.sums[[row for row in rows if row < known.kept]].tolist()
        return cls([known.ids[row] for row in rows], list(known.shapes[rows]), list(known.boxes[rows]), sums)

    def add(self, image_id: str, found: Resized, checksum: int | None = None) -> None:
        """One more; with a checksum where its pixels are kept."""
        self.ids.append(image_id)
        self.shapes.append(found.pixels.shape[1:])
        self.boxes.append(found.visible)
        if checksum is not None:
            self.sums.append(checksum)
