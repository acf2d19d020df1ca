"""Which kind of source a path is."""

from __future__ import annotations

import glob
import itertools
import os
import re
from pathlib import Path

from clipvil.errors import DataError, UsageError
from clipvil.images.decode import Limits
from clipvil.images.sources.base import IMAGE_SUFFIXES, ImageItem, ImageSource, ListSource, printable
from clipvil.images.sources.files import FileBytes
from clipvil.images.sources.folder import FolderSource
from clipvil.images.sources.lists import NamedSource, kind_of_json, read_coco, read_csv, read_jsonl, read_karpathy
from clipvil.images.sources.tar import tar_source
from clipvil.images.sources.zip import zip_source

KINDS = ("folder", "csv", "jsonl", "coco", "karpathy", "tar", "zip")

_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".tar": "tar", ".zip": "zip"}
_READERS = {"csv": read_csv, "jsonl": read_jsonl, "coco": read_coco, "karpathy": read_karpathy}
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000


def open_source(
    path: str | Path, *, kind: str | None = None, images: Path | None = None, limits: Limits | None = None
) -> ImageSource:
    """Open a folder, a CSV/TSV/JSONL list, COCO or Karpathy JSON, tar shards, a zip, or a single picture.

    The kind is told by the path (and for `.json` by the content) unless given. Several archives are one source:
    `shard-{000..010}.tar` (all must exist), `shard-*.tar`, or a folder with kind tar or zip. Relative paths in lists
    start at `images`, by default at the list's own folder. Raises UsageError for an unknown kind, DataError for a path
    or list that is wrong, before any picture is read.
    """
    limits = limits or Limits()
    if kind is not None and kind not in KINDS:
        raise UsageError(
            f"unknown kind of picture source '{kind}'; known: {', '.join(KINDS)}, and views and skybox for panoramas"
        )
    files = _expand(str(path))
    chosen = kind or _kind(files[0])
    if len(files) > 1 and chosen not in ("tar", "zip"):
        raise UsageError(f"{path}: a pattern is for tar and zip files only; this looks like '{chosen}'")
    if chosen in ("tar", "zip") and files[0].is_dir():
        files = sorted(files[0].glob(f"*.{chosen}"))
        if not files:
            raise DataError(f"this folder holds no .{chosen} files", file=path)
    for file in files:
        _require(file, folder=chosen == "folder")
    if images is not None and chosen not in _READERS:
        raise UsageError(f"{path}: a folder of images goes with a list or JSON only, this is '{chosen}'")
    if chosen == "folder":
        return FolderSource(files[0], limits)
    if chosen == "tar":
        return tar_source(files, limits, Path(path).name)
    if chosen == "zip":
        return zip_source(files, limits, Path(path).name)
    if chosen == "picture":
        item = ImageItem(files[0].name, printable(str(files[0])), FileBytes(str(files[0]), limits.max_bytes))
        return ListSource([item], files[0].name)
    return NamedSource(files[0], images or files[0].parent, _READERS[chosen](files[0]), limits)


def _require(file: Path, *, folder: bool) -> None:
    if not file.exists():
        raise DataError("does not exist", file=file)
    if file.is_dir() != folder:
        raise DataError("is not a folder" if folder else "is a folder, not a file", file=file)
    if not os.access(file, os.R_OK):
        raise DataError("cannot be read (permission denied)", file=file)


def _kind(file: Path) -> str:
    if file.is_dir():
        return "folder"
    if not file.exists():
        raise DataError("does not exist", file=file)
    suffix = file.suffix.lower()
    if suffix == ".json":
        return kind_of_json(file)
    if suffix in IMAGE_SUFFIXES:
        return "picture"
    if suffix not in _BY_SUFFIX:
        raise UsageError(f"{file}: cannot tell what kind of picture source this is; give one of {', '.join(KINDS)}")
    return _BY_SUFFIX[suffix]


def _expand(pattern: str) -> list[Path]:
    """The files that a path or pattern names. A path that exists is itself, whatever characters it holds."""
    if Path(pattern).exists():
        return [Path(pattern)]
    if _RANGE.search(pattern):
        return _numbered(pattern)
    if any(character in pattern for character in "*?["):
        found = sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not found:
            raise DataError("no file matches this pattern", file=pattern)
        return [Path(name) for name in found]
    return [Path(pattern)]


def _numbered(pattern: str) -> list[Path]:
    """`{000..010}` as the shell expands it, with leading zeros kept."""
    parts = _RANGE.split(pattern)
    ranges = [(first, last) for first, last in zip(parts[1::3], parts[2::3], strict=True)]
    total = 1
    for first, last in ranges:
        total *= abs(int(last) - int(first)) + 1
    if total > _MOST_SHARDS:
        raise UsageError(f"{pattern}: names {total} files, the cap is {_MOST_SHARDS}")
    choices = []
    for first, last in ranges:
        step = 1 if int(first) <= int(last) else -1
        width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
        choices.append([str(n).zfill(width) for n in range(int(first), int(last) + step, step)])
    texts = parts[0::3]
    return [
        Path("".join(map("".join, itertools.zip_longest(texts, chosen, fillvalue=""))))
        for chosen in itertools.product(*choices)
    ]
