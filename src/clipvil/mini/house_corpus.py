"""Miniature houses as files, in R2R's formats.

    manifest.json                                what it is, with hashes; written last, so that it vouches for the rest
    R2R_<split>.json                             train, val_seen (paths of the training houses that train lacks),
                                                 val_unseen and test (houses of their own, with their paths)
    connectivity/<scan>_connectivity.json        poses and edges; scans.txt lists the scans
    views/<scan>/<viewpoint>_<view>.png          36 pictures of 64 x 64 pixels a viewpoint
    plans.json                                   rooms, landmarks and walls by scan, for drawing trajectories on

The same seed and sizes give the same files, byte for byte.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from clipvil.errors import DataError, UsageError
from clipvil.files import atomic_write_json
from clipvil.mini.house_drawing import VIEWS, panorama
from clipvil.mini.house_paths import episode, paths
from clipvil.mini.houses import House, house
from clipvil.progress import progress

VERSION = 1
"""Raised whenever the same seed and sizes would give other files."""
FORMAT = "clipvil-mini-houses"
GROUPS = ("train", "val_unseen", "test")
SPLITS = ("train", "val_seen", "val_unseen", "test")
SIZES = {"train": 36, "val_unseen": 6, "test": 12}
"""Houses a group when nobody says otherwise."""
PATHS = {"train": 30, "val_seen": 4, "val_unseen": 20, "test": 20}
"""At most so many paths a house."""
MANIFEST, UNFINISHED = "manifest.json", "unfinished.json"
_MOST = 1000


@dataclass(frozen=True)
class Houses:
    """Complete houses on disk: how many, with how many viewpoints, and how many instructions each split has."""

    root: Path
    sizes: dict[str, int]
    seed: int
    viewpoints: int = 0
    instructions: dict[str, int] = field(default_factory=dict)

    @property
    def houses(self) -> int:
        """How many there are in all."""
        return sum(self.sizes.values())

    @property
    def views(self) -> int:
        """How many pictures there are."""
        return VIEWS * self.viewpoints


def view_id(scan: str, viewpoint: str, view: int) -> str:
    """The picture id of a view."""
    return f"{scan}_{viewpoint}_{view:02d}"


def view_file(scan: str, viewpoint: str, view: int) -> str:
    """Where a view lies below the folder of the houses."""
    return f"views/{scan}/{viewpoint}_{view:02d}.png"


def write_houses(
    directory: str | Path, sizes: Mapping[str, int] | None = None, seed: int = 0, *, force: bool = False
) -> Houses:
    """Write houses into `directory`, or take those that are there if they are complete and the same.

    `sizes` gives houses a group; groups it leaves out are not written. House i of a group does not depend on the sizes.
    Other houses are only replaced with `force`. Raises UsageError for impossible sizes or a folder that holds something
    else, DataError for damaged files.
    """
    wanted = checked_sizes(SIZES if sizes is None else sizes)
    root = Path(directory)
    there = _manifest(root)
    if (
        there is None
        and root.exists()
        and (not root.is_dir() or any(root.iterdir()))
        and not (root / UNFINISHED).exists()
    ):
        raise UsageError(f"{root}: not empty and no miniature houses; name another folder")
    if there is not None and not force:
        if (there.get("version"), there.get("seed"), there.get("sizes")) != (VERSION, seed, wanted):
            raise UsageError(
                f"{root}: holds other houses (version {there.get('version')}, seed {there.get('seed')}, sizes "
                f"{there.get('sizes')}); name another folder or replace them with --force"
            )
        return open_houses(root)
    root.mkdir(parents=True, exist_ok=True)
    head = {"format": FORMAT, "version": VERSION, "seed": seed, "sizes": wanted}
    atomic_write_json(root / UNFINISHED, head)
    (root / MANIFEST).unlink(missing_ok=True)
    for folder in ("views", "connectivity"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for leftover in (*(root / f"R2R_{split}.json" for split in SPLITS), root / "plans.json"):
        leftover.unlink(missing_ok=True)
    built = {(group, i): house(seed, group, i) for group, count in wanted.items() for i in range(count)}
    counts = _write_rows(root, built, seed)
    hashes = _write_views(root, list(built.values()))
    viewpoints = sum(len(one.rooms) for one in built.values())
    hashes |= {str(path.relative_to(root)): _sha256(path.read_bytes()) for path in _json_files(root)}
    atomic_write_json(root / MANIFEST, {**head, "viewpoints": viewpoints, "instructions": counts, "sha256": hashes})
    (root / UNFINISHED).unlink()
    return Houses(root, wanted, seed, viewpoints, counts)


def open_houses(directory: str | Path) -> Houses:
    """Complete houses that were written before. Raises DataError where there are none, or their files are damaged."""
    root = Path(directory)
    manifest = _manifest(root)
    if manifest is None:
        what = "these houses were never finished" if (root / UNFINISHED).exists() else "no miniature houses"
        raise DataError(what, file=root, fix="write them with `clipvil navigation houses DIR`")
    fix = "write the houses again with --force"
    for name, digest in manifest["sha256"].items():
        path = root / name
        if name.startswith("views/"):
            found = sum(1 for _ in path.glob("*.png")) if path.is_dir() else 0
            if not found or found % VIEWS:
                raise DataError(f"has {found} views, no whole number of panoramas", file=path, fix=fix)
        elif not path.is_file() or _sha256(path.read_bytes()) != digest:
            raise DataError("missing, or not what was written", file=path, fix=fix)
    return Houses(
        root, dict(manifest["sizes"]), int(manifest["seed"]), manifest["viewpoints"], dict(manifest["instructions"])
    )


def checked_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes in the order of `GROUPS`. Raises UsageError for an unknown group or an impossible number."""
    if not isinstance(sizes, Mapping) or not sizes:
        raise UsageError(f"sizes: must give houses a group, as in {{train: 36, test: 12}}, not {sizes!r}")
    for group, count in sizes.items():
        if group not in GROUPS:
            raise UsageError(f"sizes: no group {group!r} of houses; there are {', '.join(GROUPS)}")
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST:
            raise UsageError(f"sizes: {group}={count!r} must be a whole number from 1 to {_MOST}")
    return {group: sizes[group] for group in GROUPS if group in sizes}


def split_names(sizes: Mapping[str, int]) -> list[str]:
    """The splits that houses of these groups have: those of train have val_seen too."""
    return [split for split in SPLITS if ("train" if split == "val_seen" else split) in sizes]


def _write_rows(root: Path, built: Mapping[tuple[str, int], House], seed: int) -> dict[str, int]:
    """Everything but the pictures; instructions a split."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for (group, _), one in built.items():
        atomic_write_json(root / "connectivity" / f"{one.scan}_connectivity.json", one.connectivity(), indent=None)
        for split, path in _split_paths(group, one, seed):
            found = rows.setdefault(split, [])
            path_id = SPLITS.index(split) * 1_000_000 + len(found)
            found.append(episode(one, path, path_id, seed))
    scans = "".join(f"{one.scan}\n" for one in built.values())
    (root / "connectivity" / "scans.txt").write_text(scans, encoding="ascii")
    for split, found in rows.items():
        atomic_write_json(root / f"R2R_{split}.json", found)
    atomic_write_json(root / "plans.json", {one.scan: one.plan() for one in built.values()}, indent=None)
    return {split: sum(len(row["instructions"]) for row in rows[split]) for split in SPLITS if split in rows}


def _split_paths(group: str, one: House, seed: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    ways = paths(one, seed)
    if group != "train":
        yield from ((group, way) for way in ways[: PATHS[group]])
        return
    # The seen paths come first, so that a house with few paths still has some that nobody trained on.
    yield from (("val_seen", way) for way in ways[: PATHS["val_seen"]])
    yield from (("train", way) for way in ways[PATHS["val_seen"] :][: PATHS["train"]])


def _write_views(root: Path, built: list[House]) -> dict[str, str]:
    """The pictures; the hash of each house's, all together, by folder."""
    hashes = {}
    with progress(sum(len(one.rooms) for one in built), "miniature houses", unit="viewpoints") as bar:
        for one in built:
            (root / "views" / one.scan).mkdir(parents=True, exist_ok=True)
            pixels = hashlib.sha256()
            for number, room in enumerate(one.rooms):
                for view, picture in enumerate(panorama(one, number)):
                    data = _png(picture)
                    # No fsync a picture: the manifest vouches for the whole.
                    (root / view_file(one.scan, room.viewpoint, view)).write_bytes(data)
                    pixels.update(data)
                bar.update(1)
            hashes[f"views/{one.scan}"] = pixels.hexdigest()
    return hashes


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _json_files(root: Path) -> list[Path]:
    found = [root / "plans.json", *sorted((root / "connectivity").iterdir())]
    return [*found, *(path for split in SPLITS if (path := root / f"R2R_{split}.json").is_file())]


def _manifest(root: Path) -> dict[str, Any] | None:
    path = root / MANIFEST
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read ({error})", file=path, fix="name another folder") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UsageError(f"{path}: not the manifest of miniature houses; name another folder")
    return value


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
