"""Pictures inside tar files (WebDataset shards), read by offset and never unpacked."""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from clipvil.errors import DataError
from clipvil.images.decode import Limits
from clipvil.images.sources.archive import (
    ArchiveSource,
    Member,
    Reader,
    is_picture_name,
    member_id,
    refuse,
    unsafe_name,
)
from clipvil.images.sources.files import FileSlice

_BLOCK = 512
_MOST_HEADER_BYTES = 2**20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


def tar_source(shards: list[Path], limits: Limits, name: str) -> ArchiveSource:
    """Index one or many uncompressed tar files; ids are member names with the extension.

    Links, devices, sparse members, directories and unsafe names that end like a picture become items whose `read`
    raises; so does the damaged rest of a shard, once, under the shard's own name. Raises DataError for a compressed,
    missing or foreign file, for a double id, and where no picture is found at all.
    """
    reader = functools.partial(_reader, limits.max_bytes)
    members = (member for number, shard in enumerate(shards) for member in _index(shard, number))
    return ArchiveSource(name, [str(shard) for shard in shards], members, reader)


def _reader(max_bytes: int, path: str, place: tuple[int, ...], where: str) -> Reader:
    return FileSlice(path, place[0], place[1], where, max_bytes)


def _index(shard: Path, number: int) -> Iterator[Member]:
    try:
        stream = shard.open("rb")
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})", file=shard) from error
    with stream:
        _refuse_foreign(stream, shard)
        found = 0
        try:
            for info in _headers(stream):
                found += 1
                if is_picture_name(info.name):
                    yield _member(info, shard, number)
        except tarfile.TarError as error:
            if not found:
                raise DataError(f"is not a tar file ({error})", file=shard) from error
            lost = refuse(f"{shard}", f"the tar is damaged ({error}); pictures after it are lost", "truncated")
            yield Member(shard.name, number, refused=lost)


def _member(info: tarfile.TarInfo, shard: Path, number: int) -> Member:
    where = f"{shard}:{info.name}"
    why = unsafe_name(info.name)
    if why is None and info.isdir():
        return Member(member_id(info.name), number, refused=refuse(where, "is a directory", "unreadable"))
    if why is None and not info.isreg():
        why = "is a link, which is never followed" if info.issym() or info.islnk() else "is a device, not a file"
    if why is None and info.issparse():
        why = "is a sparse member, which cannot be read in one piece"
    if why is not None:
        return Member(member_id(info.name), number, refused=refuse(where, why))
    return Member(member_id(info.name), number, (info.offset_data, info.size))


def _headers(stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """All headers in order. Raises TarError where the archive is damaged, also where tarfile would end silently."""
    archive = tarfile.TarFile(fileobj=_Guarded(stream), mode="r", encoding="utf-8", errors="surrogateescape")
    previous = -1
    while True:
        try:
            info = archive.next()
        except (ValueError, OverflowError, RecursionError, MemoryError, OSError) as error:
            raise tarfile.ReadError(f"unreadable header after byte {archive.offset}: {error}") from error
        if info is None:
            break
        archive.members = []  # type: ignore[attr-defined]  # it would keep every header
        if info.offset <= previous or info.size < 0 or info.offset_data < info.offset:
            raise tarfile.ReadError(f"header at byte {info.offset} points backwards")
        previous = info.offset
        yield info
    stream.seek(archive.offset)
    if stream.read(_BLOCK).strip(b"\0"):
        raise tarfile.ReadError(f"no valid header at byte {archive.offset}")


def _refuse_foreign(stream: IO[bytes], shard: Path) -> None:
    head = stream.read(2)
    stream.seek(0)
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(
                f"is compressed with {kind}, so pictures cannot be read by offset",
                file=shard,
                fix="decompress it first",
            )


class _Guarded:
    """A stream that refuses the huge reads which a forged header (pax, long name) can ask for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.name = "tar"
        self.mode = "rb"

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
