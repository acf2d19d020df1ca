"""Pre-training pairs in LXMERT's JSON files: sentences about pictures, some of them questions with answers.

Data section:

    format: lxmert
    root: /data
    train:
      pairs: [lxmert/mscoco_train.json, lxmert/mscoco_nominival.json, lxmert/vgnococo.json]
      images: {COCO_train2014: mscoco/train2014, COCO_val2014: mscoco/val2014, "": vg_raw_images/VG_100K}
    val:
      pairs: lxmert/mscoco_minival.json
      images: {COCO_val2014: mscoco/val2014}

A file is a list of one object a picture: `img_id`, `sentf` ({source: [sentence, ...]}) and `labelf` ({source:
[{answer: score}, ...]}, in step with the sentences). It is read once, as a stream, into flat arrays that later runs map
into memory (see `cache` for the folder, and `pretraining`).

`images` is one folder, or folders by how ids begin (the longest beginning that fits; "" takes the rest). Pictures are
`<img_id>.jpg`, or as `template` says. All pictures are looked for when a split is opened: with `missing: error` (the
default) one that is not there is an error, with `missing: allow` its sentences are left out, with a count on stderr;
the records' `missing` names those pictures, and `missing_list: FILE` writes them down, one a line. `sources: [mscoco,
vqa]` takes sentences of those sources alone.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipvil.datasets.base import Dataset, Row, known, option, option_path, option_text
from clipvil.datasets.cache import cache_folder, cached_as
from clipvil.datasets.parts import Pictures, filled
from clipvil.datasets.pretraining import TABLE_VERSION, PretrainingBuilder, PretrainingSequence
from clipvil.datasets.stream import stream_list
from clipvil.errors import DataError
from clipvil.files import atomic_write
from clipvil.notices import to_stderr

_DATA = ("format", "root", "cache")
_SPLIT = ("pairs", "images", "template", "sources", "missing", "missing_list")
TEMPLATE = "{}.jpg"


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The entries of the data section that describe a split, train and val first."""
    names = [key for key in data if key not in _DATA]
    return sorted(names, key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    names, where = split_names(data), f"data.{split}"
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names) or 'none'}")
    entry = data[split]
    if not isinstance(entry, Mapping):
        raise DataError(f"the split '{split}' must be a mapping with 'pairs' and more", field=where)
    known(entry, _SPLIT, where)
    root = option_path(data, "root", ".")
    files = [root / option_path({"pairs": one}, "pairs", where=where) for one in _listed(entry, "pairs", where)]
    records = read_pairs(files, cache=cache_folder(data.get("cache")))
    if entry.get("sources") is not None:
        records = of_sources(records, _listed(entry, "sources", where), files)
    place = _places(entry, root, where)
    pictures = {image: place(image) for image in records.image_ids()}
    records = _present(records, pictures, entry, root, split)
    return Dataset("lxmert", split, records, Pictures(pictures))


def read_pairs(files: Sequence[Path], *, cache: Path | None = None) -> PretrainingSequence:
    """Every pair of the files in file order, from `cache` where they were read before.

    Raises DataError naming file, row and field.
    """
    if cache is not None:
        with contextlib.suppress(OSError):  # told by the cache when it comes to that
            cache.mkdir(parents=True, exist_ok=True)

    def build() -> PretrainingSequence:
        builder, seen = PretrainingBuilder(cache), {}  # type: PretrainingBuilder, dict[str, tuple[Path, int]]
        for file in files:
            _add_file(file, builder, seen)
        if not len(builder):
            raise DataError("holds no sentences", file=files[0])
        return builder.finish()

    return cached_as("lxmert", files, build, PretrainingSequence.of, options={"table": TABLE_VERSION}, folder=cache)


def _add_file(file: Path, builder: PretrainingBuilder, seen: dict[str, tuple[Path, int]]) -> None:
    for number, value in enumerate(stream_list(file), start=1):
        row = Row(value, file, number)
        image_id = row.identifier("img_id")
        if image_id in seen:
            before, there = seen[image_id]
            raise row.error(f"picture {image_id} already stands in row {there} of {before}", "img_id")
        seen[image_id] = (file, number)
        sentences, labels = _object(row, "sentf", needed=True), _object(row, "labelf", needed=False)
        for source in labels:
            if source not in sentences:
                raise row.error(f"has labels of {source!r}, which has no sentences in 'sentf'", "labelf")
        for source, given in sentences.items():
            row.checked_text(source, "sentf", empty=True)
            _add(row, builder, image_id, source, given, labels.get(source))


def _add(row: Row, builder: PretrainingBuilder, image_id: str, source: str, given: Any, labels: Any) -> None:
    if not isinstance(given, list):
        raise row.error(f"'{source}' must be a list of sentences", "sentf")
    if labels is None:
        labels = [None] * len(given)
    if not isinstance(labels, list) or len(labels) != len(given):
        raise row.error(f"'{source}' must be a list as long as its {len(given)} sentences", "labelf")
    for sentence, label in zip(given, labels, strict=True):
        builder.add(image_id, row.checked_text(sentence, "sentf", empty=True), source, _label(row, label))


def _object(row: Row, name: str, *, needed: bool) -> Mapping[str, Any]:
    value = row.raw(name) if needed else row.value.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise row.error("must be an object by source", name)
    return value


def _label(row: Row, label: Any) -> Mapping[str, float]:
    if label is None:
        return {}
    if not isinstance(label, Mapping):
        raise row.error("must hold an object from answer to score for every sentence", "labelf")
    for answer, score in label.items():
        row.checked_text(answer, "labelf", empty=True)
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1 or math.isnan(score):
            raise row.error(f"the score of {answer!r} must be a number from 0 to 1, not {score!r}", "labelf")
    return label


def of_sources(records: PretrainingSequence, wanted: Sequence[Any], files: Sequence[Path]) -> PretrainingSequence:
    """The pairs of some sources. Raises DataError for a source that there is not."""
    there = list(records.sources())
    absent = next((name for name in wanted if name not in there), None)
    if absent is not None:
        raise DataError(f"no sentences of the source {absent!r}", file=files[0], fix=f"there are {', '.join(there)}")
    if set(wanted) == set(there):
        return records
    names = records.column("source")
    return records.select(np.flatnonzero([name in wanted for name in names]).astype(np.int64))


def _listed(entry: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = option(entry, name, where)
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not items or not all(isinstance(item, str | Path) for item in items):
        raise DataError("must be a name or a list of them", field=f"{where}.{name}")
    return list(items)


def _places(entry: Mapping[str, Any], root: Path, where: str) -> Any:
    """The function from image id to file."""
    template, images = option_text(entry, "template", TEMPLATE, where=where), entry.get("images")
    if isinstance(images, Mapping):
        folders = {str(start): str(root / option_path(images, start, where=f"{where}.images")) for start in images}
    else:
        folders = {"": str(root / option_path(entry, "images", ".", where=where))}
    starts = sorted(folders, key=len, reverse=True)

    def place(image_id: str) -> str:
        start = next((start for start in starts if image_id.startswith(start)), None)
        if start is None:
            raise DataError(
                f"no folder for the picture {image_id}",
                field=f"{where}.images",
                fix="add one under the beginning of its id",
            )
        return os.path.join(folders[start], filled(template, image_id))  # noqa: PTH118 - 180,000 Paths take seconds

    return place


def _present(
    records: PretrainingSequence, pictures: dict[str, str], entry: Mapping[str, Any], root: Path, split: str
) -> PretrainingSequence:
    """The pairs whose picture is there; the others are counted, named, and taken out of `pictures` too."""
    where = f"data.{split}"
    rule = option_text(entry, "missing", "error", where=where)
    if rule not in ("error", "allow"):
        raise DataError("must be error or allow", field=f"{where}.missing")
    missing = absent(pictures)
    if not missing:
        return records
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    if entry.get("missing_list") is not None:
        path = root / option_path(entry, "missing_list", where=where)
        with atomic_write(path) as stream:
            stream.write("".join(f"{image}\n" for image in missing).encode("utf-8"))
    if rule == "error" or len(missing) == len(pictures):
        raise DataError(
            f"{len(missing)} of {len(pictures)} pictures of the split '{split}' are not there: {some}",
            file=pictures[missing[0]],
            fix="look at 'images' and 'template'"
            + ("" if rule == "allow" else ", or go on without them by missing: allow"),
        )
    gone = set(missing)
    names = records.column("image_id")
    rows = np.flatnonzero([name not in gone for name in names]).astype(np.int64)
    to_stderr(
        f"{split}: {len(missing)} of {len(pictures)} pictures are not there ({some}); "
        f"{len(records) - len(rows)} of {len(records)} sentences are left out"
    )
    for image in missing:
        del pictures[image]
    return records.without(missing, rows)


def absent(pictures: Mapping[str, str]) -> list[str]:
    """The ids whose file is not there. Folders are listed once: asking file by file takes minutes over a network."""
    folders: dict[str, set[str]] = {}
    out = []
    for image_id, path in pictures.items():
        folder, _, name = path.rpartition(os.sep)
        if folder not in folders:
            folders[folder] = set(_files(folder))
        if name not in folders[folder]:
            out.append(image_id)
    return out


def _files(folder: str) -> Iterable[str]:
    try:
        with os.scandir(folder or ".") as found:
            return [item.name for item in found]
    except OSError:
        return []
