"""Files that are whole or absent: write to a temporary name, fsync, rename, fsync the folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""Why a file cannot grow; the system does not say which."""


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` only if the block ends without an error.

    The temporary file stands in the same folder (a rename across file systems would copy), its name starts with a
    dot and ends with `.tmp`, and it is removed when the block fails (a full disk, an interrupt).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A short fixed prefix: the target's own name may already be as long as the file system allows.
    handle, name = tempfile.mkstemp(prefix=".clipvil-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise
    fsync_folder(path.parent)


@contextlib.contextmanager
def taking_turns(path: str | Path) -> Iterator[None]:
    """Hold the lock file at `path`, waiting for whoever has it; it is gone afterwards.

    The lock ends with the process, however it ends; the file of a killed one is used again. Where the file system has
    no locks nobody waits.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as handle:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_still(handle, path):
                continue  # whoever had it removed the file while this process waited
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(handle: IO[Any], path: Path) -> bool:
    try:
        return os.fstat(handle.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def atomic_write_json(path: str | Path, value: Any, *, indent: int | None = 1) -> None:
    """Write `value` as UTF-8 JSON, whole or not at all. Key order is kept; NaN is refused."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as stream:
        stream.write(text.encode("utf-8") + b"\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
