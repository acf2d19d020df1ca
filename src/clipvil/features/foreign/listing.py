"""Files of a folder and the picture ids their names stand for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from clipvil.errors import DataError, UsageError
from clipvil.features.foreign.base import IdRule
from clipvil.images.sources.base import as_id

_COCO = re.compile(r"(?:COCO_[A-Za-z0-9\-]+_)?0*([0-9]+)")


def list_files(folder: Path, suffix: str) -> list[str]:
    """Paths inside `folder`, without `suffix`, of all files that end with it, in sorted order.

    Folders inside are entered, links to folders are not. Raises DataError where there are none.
    """
    if not folder.is_dir():
        raise DataError("no such folder" if not folder.exists() else "is no folder", file=folder)
    found = []
    for root, _, names in os.walk(folder):
        inside = os.path.relpath(root, folder)
        for name in names:
            if name.endswith(suffix) and len(name) > len(suffix):
                path = name if inside == "." else f"{inside}/{name}"
                found.append(path.removesuffix(suffix))
    if not found:
        raise DataError(f"holds no {suffix} files", file=folder, fix="name the folder in which they lie")
    return sorted(found)


def ids_of(stems: Iterable[str], rule: IdRule) -> list[str]:
    """Picture ids of paths without suffix.

    `stem` takes them as they are (`COCO_val2014_000000123456`); `coco` takes the number at the end of COCO's names and
    of names that are numbers (`123456`), and leaves other names as they are.
    """
    if rule == "stem":
        return [as_id(stem) for stem in stems]
    out = []
    for stem in stems:
        match = _COCO.fullmatch(stem.rpartition("/")[2])
        out.append(match[1] if match else as_id(stem))
    return out


def check_file_ids(ids: Iterable[str]) -> None:
    """Raise UsageError for an id that cannot be part of a file's path inside the folder of an export."""
    for image_id in ids:
        parts = image_id.split("/")
        odd = any(part in ("", ".", "..") for part in parts) or "\0" in image_id or "\\" in image_id
        try:
            odd = odd or max(len(part.encode("utf-8")) for part in parts) > 200
        except UnicodeEncodeError:
            odd = True
        if odd:
            raise UsageError(
                f"picture id {image_id!r} cannot be a file name; export to bottom-up-tsv, lmdb or hdf5, or give "
                "pictures other ids"
            )
