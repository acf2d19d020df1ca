"""Files of a store that several processes may write: whole or absent, one writer at a time, leftovers recognised."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from clipvil.errors import StoreError
from clipvil.files import fsync_folder

# Locks are an extra safety; a file system without them (some network mounts) still gets whole-or-absent files.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def temporary_path(path: Path) -> Path:
    """The one temporary name of `path`; fixed, so that a restart writes over what a killed process left."""
    return path.with_name(f".{path.name}.tmp")


def open_locked(path: Path, *, wait: bool) -> IO[bytes]:
    """Open the temporary file of `path`, emptied and locked by this process.

    The lock belongs to the open file and goes when the process dies, however it dies: an unlocked temporary file is
    therefore abandoned. Raises StoreError when another process writes the same file and `wait` is False.
    """
    temporary = temporary_path(path)
    while True:
        # Not mode "w": the file may be another writer's, and is emptied only once it is ours.
        stream = os.fdopen(os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            stream.close()
            raise StoreError(
                f"{path}: another process is writing this file; wait for it, or give each process its own --shard i/n"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                stream.close()
                raise
        # Between open and lock the former owner may have renamed or removed the file: then start over.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(stream.fileno()).st_ino == temporary.stat().st_ino:
                break
        stream.close()
    stream.truncate(0)
    return stream


@contextlib.contextmanager
def exclusive_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` only if the block ends well; writers of one file wait for each other."""
    with open_locked(path, wait=True) as stream, _removed_on_error(path):
        yield stream
        _publish(stream, path)
    fsync_folder(path.parent)


def create_once(path: Path, data: bytes) -> bool:
    """Write the file unless it is there; returns whether this call wrote it. Of several callers exactly one does."""
    with open_locked(path, wait=True) as stream, _removed_on_error(path):
        # Decided under the lock: whoever held it before may have just put the file there.
        if path.exists():
            temporary_path(path).unlink()
            return False
        stream.write(data)
        _publish(stream, path)
    fsync_folder(path.parent)
    return True


def _publish(stream: IO[bytes], path: Path) -> None:
    """Rename while the lock is held: a waiting writer then finds another file under the name and starts over."""
    stream.flush()
    os.fsync(stream.fileno())
    temporary_path(path).replace(path)


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    """Used inside the lock, so that it is our own temporary file that goes and not that of the next writer."""
    try:
        yield
    except BaseException:
        temporary_path(path).unlink(missing_ok=True)
        raise


def clean_abandoned(folder: Path, pattern: str) -> int:
    """Remove the temporary files of dead processes whose target's name fits the regular expression.

    Those of live processes are locked and stay. Returns how many were removed.
    """
    removed = 0
    for temporary in sorted(folder.glob(".*.tmp")):
        if re.fullmatch(pattern, temporary.name[1:-4]) is None:
            continue
        with contextlib.suppress(OSError), temporary.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink()
            removed += 1
    return removed
