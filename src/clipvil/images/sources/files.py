"""Read one ordinary file, and refuse everything that only looks like one."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from clipvil.errors import ImageError
from clipvil.images.sources.base import printable

_MISSING = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True)
class FileBytes:
    """Reads a picture file of at most `max_bytes`. Raises ImageError: missing, unreadable, empty or too_large."""

    path: str
    max_bytes: int

    def __call__(self) -> bytes:
        """The whole file."""
        where = printable(self.path)
        try:
            # Non-blocking, because opening a named pipe would otherwise wait for ever for somebody to write into it.
            handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _cannot_open(where, error, dangling=Path(self.path).is_symlink()) from error
        except ValueError as error:  # a NUL inside the name
            raise ImageError("missing", f"{where}: no file can have this name ({error})") from error
        try:
            status = os.fstat(handle)
            self._refuse(status, where)
            with os.fdopen(handle, "rb", closefd=False) as stream:
                data = stream.read(status.st_size + 1)
        except OSError as error:
            raise ImageError("unreadable", f"{where}: cannot be read ({error.strerror})") from error
        finally:
            os.close(handle)
        if not data:
            raise ImageError("empty", f"{where}: the file is empty")
        if len(data) != status.st_size:
            raise ImageError("unreadable", f"{where}: changed while it was read")
        return data

    def _refuse(self, status: os.stat_result, where: str) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("unreadable", f"{where}: is a directory, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("unreadable", f"{where}: is not an ordinary file")
        if status.st_size > self.max_bytes:
            raise ImageError("too_large", f"{where}: {status.st_size} bytes, the cap is {self.max_bytes}")


@dataclass(frozen=True)
class FileSlice:
    """Reads `size` bytes at `offset` of an archive; opened for each read, so any number of processes can share it."""

    path: str
    offset: int
    size: int
    where: str
    max_bytes: int

    def __call__(self) -> bytes:
        """The slice; raises ImageError: missing, unreadable, empty, too_large or truncated."""
        if self.size == 0:
            raise ImageError("empty", f"{self.where}: the member is empty")
        if self.size > self.max_bytes:
            raise ImageError("too_large", f"{self.where}: {self.size} bytes, the cap is {self.max_bytes}")
        data = read_at(self.path, self.offset, self.size, self.where)
        if len(data) < self.size:
            raise ImageError("truncated", f"{self.where}: the archive ends inside this member")
        return data


def read_at(path: str, offset: int, size: int, where: str) -> bytes:
    """Up to `size` bytes at `offset`; fewer only at the end of the file. Raises ImageError: missing or unreadable."""
    try:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - one system call less, in the hottest loop
            parts = []
            while size > 0 and (part := os.pread(stream.fileno(), size, offset)):
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
            return b"".join(parts)
    except OSError as error:
        raise _cannot_open(where, error, dangling=False) from error


def _cannot_open(where: str, error: OSError, *, dangling: bool) -> ImageError:
    if dangling and error.errno in _MISSING:
        return ImageError("missing", f"{where}: a link to a file that does not exist")
    if error.errno in _MISSING:
        return ImageError("missing", f"{where}: does not exist")
    return ImageError("unreadable", f"{where}: cannot be opened ({error.strerror})")
