"""Parsed corpora on disk, so that a corpus of hundreds of megabytes is read once and then mapped into memory.

An entry is one safetensors file. Its header names the source files with size, times and SHA-256, the reader's schema
version and a checksum of the data; an entry whose sources changed, or which is damaged, is made anew. Entries appear by
rename and are only ever replaced whole, so several processes may read and write them at once.

The folder is, in this order: the data section's `cache`, the environment variable CLIPVIL_CACHE, and `clipvil/datasets`
in the user's cache folder (XDG_CACHE_HOME, ~/.cache). `off` (or false) turns the cache off. Files that are parsed in no
time get no entry. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from clipvil.datasets.columns import Questions
from clipvil.errors import DataError
from clipvil.files import atomic_write

SCHEMA = 1
"""To be raised whenever a reader or the layout of `Questions` changes what comes out."""
VARIABLE = "CLIPVIL_CACHE"
SMALLEST = 4 << 20
"""Bytes of source files below which no entry is made: they are parsed in a tenth of a second."""
_SAMPLES, _SAMPLE = 16, 1 << 16
# A file written in the same instant in which it was recorded may be written once more without its time moving on.
_TICK_NS = 2_000_000_000
_DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "F64": np.dtype("<f8"),
}


def cache_folder(choice: Any = None) -> Path | None:
    """Where entries are kept; None when the cache is off. `choice` is a data section's `cache`.

    Raises DataError when it is neither a path nor false.
    """
    if choice is None:
        choice = os.environ.get(VARIABLE) or None
    if choice is None:
        base = os.environ.get("XDG_CACHE_HOME")
        # The specification wants relative paths ignored.
        folder = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
        return folder / "clipvil" / "datasets"
    if choice is False or (isinstance(choice, str) and choice.lower() in ("off", "none", "false", "0")):
        return None
    if not isinstance(choice, str | Path):
        raise DataError("must be a folder, or 'off'", field="cache")
    return Path(choice).expanduser()


class Table(Protocol):
    """What can be kept: arrays of the types in `_DTYPES` by name."""

    @property
    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """One-dimensional arrays."""
        ...


T = TypeVar("T", bound=Table)


@dataclass(frozen=True)
class Kept:
    """An entry that was opened: its arrays, what they depend on (`identity`, a hash), the entry's file, and a folder

    in which hashes over the records are remembered.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    identity: str
    path: Path
    fingerprints: Path


def cached(
    kind: str,
    sources: Sequence[Path],
    build: Callable[[], Questions],
    *,
    options: Mapping[str, Any] | None = None,
    folder: Path | None,
    smallest: int | None = None,
) -> Questions:
    """Questions through `cached_as`."""

    def make(kept: Kept) -> Questions:
        return Questions(kept.arrays, identity=kept.identity, fingerprints=kept.fingerprints)

    return cached_as(kind, sources, build, make, options=options, folder=folder, smallest=smallest)


def cached_as(
    kind: str,
    sources: Sequence[Path],
    build: Callable[[], T],
    make: Callable[[Kept], T],
    *,
    options: Mapping[str, Any] | None = None,
    folder: Path | None,
    smallest: int | None = None,
) -> T:
    """What `build` reads from `sources`, from the cache when it holds just that, else built and kept there.

    `kind` names the reader and `options` whatever else its result depends on (plain JSON values). `make` turns an entry
    into the records, and raises ValueError or KeyError where its arrays do not fit together. Errors of `build`
    pass through; a cache that cannot be written costs one line on stderr and nothing else.
    """
    if folder is None or not all(path.is_file() for path in sources):
        return build()
    before = [_stamp(path) for path in sources]
    if sum(stamp["size"] for stamp in before) < (SMALLEST if smallest is None else smallest):
        return build()
    key = [SCHEMA, kind, [str(path.resolve()) for path in sources], dict(options or {})]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"{kind}-{name}.safetensors"
    found = _open(path, key, sources, before, folder, make)
    if found is not None:
        return found
    records = build()
    described = [{**stamp, **_contents(source)} for stamp, source in zip(before, sources, strict=True)]
    if [_stamp(source) for source in sources] != before:
        return records  # they changed meanwhile: what was read is not what is there now
    return _keep(path, key, described, records.arrays, folder, make) or records


def open_kept(path: Path, identity: str) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of an entry that another process opened, where its `Kept.identity` was this.

    Raises DataError when it is gone or damaged, or was made anew of other sources meanwhile.
    """
    try:
        arrays, about = _map(path)
        found = _identity(about["key"], about["sources"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the corpus cache can no longer be read ({error})", file=path, fix="start again") from None
    if found != identity:
        raise DataError("the corpus changed while it was in use", file=path, fix="start again")
    return arrays


def _stamp(path: Path) -> dict[str, int]:
    found = path.stat()
    # The change time cannot be set by hand, so an edit with the old modification time put back does not go unseen.
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}


def _contents(path: Path) -> dict[str, str]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "sample": _sample(path)}


def _sample(path: Path) -> str:
    """A hash over some blocks all over the file: a quick look where size and times say that nothing changed."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as stream:
        for i in range(_SAMPLES):
            stream.seek(max(0, size - _SAMPLE) * i // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def _open(
    path: Path,
    key: list[Any],
    sources: Sequence[Path],
    stamps: list[dict[str, int]],
    folder: Path,
    make: Callable[[Kept], T],
) -> T | None:
    """The entry, or None when it is absent, damaged, or of other files."""
    try:
        arrays, about = _map(path)
        if about["key"] != key:
            return None
        moved = False
        for source, stamp, kept in zip(sources, stamps, about["sources"], strict=True):
            if stamp["size"] != kept["size"]:
                return None
            same = all(stamp[name] == kept[name] for name in stamp)
            settled = max(kept["mtime_ns"], kept["ctime_ns"]) < about["written_ns"] - _TICK_NS
            if same and settled:
                if _sample(source) != kept["sample"]:
                    return None
            elif _contents(source)["sha256"] != kept["sha256"]:
                return None
            else:
                moved = moved or not same
        described = [{**kept, **stamp} for kept, stamp in zip(about["sources"], stamps, strict=True)]
        if moved:
            # The same content copied anew: next time a look at the stamps will do.
            return _keep(path, key, described, arrays, folder, make)
        return make(Kept(arrays, _identity(key, described), path, folder / "fingerprints"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _identity(key: list[Any], described: Sequence[Mapping[str, Any]]) -> str:
    """What the records depend on: reader, options and contents, but not where the files lie."""
    parts = [key[0], key[1], key[3], [source["sha256"] for source in described]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _keep(
    path: Path,
    key: list[Any],
    described: list[dict[str, Any]],
    arrays: Mapping[str, npt.NDArray[Any]],
    folder: Path,
    make: Callable[[Kept], T],
) -> T | None:
    """Write an entry and open it; None (and one line) when the folder cannot be written."""
    try:
        with atomic_write(path) as stream:
            _write(stream, arrays, {"key": key, "sources": described, "written_ns": time.time_ns()})
        arrays, _ = _map(path)
    except (OSError, ValueError) as error:
        print(
            f"clipvil: the corpus cache {folder} cannot be used ({error}); set {VARIABLE} to another folder or to off",
            file=sys.stderr,
        )
        return None
    return make(Kept(arrays, _identity(key, described), path, folder / "fingerprints"))


def _write(stream: IO[bytes], arrays: Mapping[str, npt.NDArray[Any]], about: Mapping[str, Any]) -> None:
    names = {dtype: name for name, dtype in _DTYPES.items()}
    # Wide types first, as in every safetensors file, so that each tensor starts where its type wants it.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {}
    position, checksum = 0, 0
    for name, value in ordered:
        header[name] = {"dtype": names[value.dtype], "shape": [len(value)]}
        header[name]["data_offsets"] = [position, position + value.nbytes]
        position += value.nbytes
        checksum = zlib.crc32(value.data, checksum) if len(value) else checksum
    described = {"about": json.dumps(about), "crc32": str(checksum)}
    described["crc32_header"] = str(_header_checksum(header, described["about"]))
    text = json.dumps({"__metadata__": described, **header}).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    for _, value in ordered:
        stream.write(value.tobytes() if not len(value) else value.data)


def _header_checksum(header: Mapping[str, Any], about: str) -> int:
    return zlib.crc32(json.dumps([dict(header), about], sort_keys=True).encode())


def _map(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """The arrays as views of a memory map, and what is written about them. Raises ValueError for any damage."""
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(mapped[:8], "little")
    if not 2 <= length <= min(1 << 20, len(mapped) - 8):
        raise ValueError("no header")
    header = json.loads(mapped[8 : 8 + length])
    described = header.pop("__metadata__")
    body = np.frombuffer(mapped, dtype=np.uint8)[8 + length :]
    if int(described["crc32_header"]) != _header_checksum(header, described["about"]):
        raise ValueError("damaged header")
    if int(described["crc32"]) != zlib.crc32(body.data):
        raise ValueError("damaged data")
    # The check has read every page; what a process never asks for again should not count as its memory.
    if hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = _DTYPES[entry["dtype"]]
        if end - begin != math.prod(entry["shape"]) * dtype.itemsize or not 0 <= begin <= end <= len(body):
            raise ValueError("a tensor outside the file")
        arrays[name] = body[begin:end].view(dtype)
    return arrays, json.loads(described["about"])
