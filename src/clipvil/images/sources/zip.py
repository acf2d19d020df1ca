"""Pictures inside zip files, read by offset and never unpacked."""

from __future__ import annotations

import functools
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clipvil.errors import DataError, ImageError
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
from clipvil.images.sources.files import read_at

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1
_MOST_RATIO = 500
_RATIO_FREE = 2**20


def zip_source(files: list[Path], limits: Limits, name: str) -> ArchiveSource:
    """Index one or many zip files; ids are member names with the extension.

    Encrypted members, links, unsafe names, unknown compression and suspected bombs (expanding more than 500 times to
    more than 1 MiB) become items whose `read` raises. Raises DataError for a file that is no zip, for a double id, and
    where no picture is found at all.
    """
    reader = functools.partial(_reader, limits.max_bytes)
    members = (member for number, file in enumerate(files) for member in _index(file, number, limits))
    return ArchiveSource(name, [str(file) for file in files], members, reader)


def _reader(max_bytes: int, path: str, place: tuple[int, ...], where: str) -> Reader:
    return ZipMember(path, where, max_bytes, *place)


@dataclass(frozen=True)
class ZipMember:
    """Reads one member: local header, stored or deflated bytes, size and CRC-32 checked (PKWARE APPNOTE 4.3.7)."""

    path: str
    where: str
    max_bytes: int
    offset: int
    packed: int
    size: int
    method: int
    crc: int

    def __call__(self) -> bytes:
        """The member, unpacked; raises ImageError: missing, unreadable, empty, truncated or corrupt."""
        if self.size == 0:
            raise ImageError("empty", f"{self.where}: the member is empty")
        header = read_at(self.path, self.offset, _LOCAL_HEADER.size, self.where)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise ImageError("corrupt", f"{self.where}: no member begins where the zip's directory says")
        fields = _LOCAL_HEADER.unpack(header)
        start = self.offset + _LOCAL_HEADER.size + fields[-2] + fields[-1]
        packed = read_at(self.path, start, self.packed, self.where)
        if len(packed) < self.packed:
            raise ImageError("truncated", f"{self.where}: the zip ends inside this member")
        data = packed if self.method == zipfile.ZIP_STORED else self._inflate(packed)
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise ImageError("corrupt", f"{self.where}: size or checksum is not what the zip's directory says")
        return data

    def _inflate(self, packed: bytes) -> bytes:
        try:
            # One byte more than promised is enough to notice a lie, whatever the stream would expand to.
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, self.size + 1)
        except zlib.error as error:
            raise ImageError("corrupt", f"{self.where}: the compressed data is damaged ({error})") from error


def _index(file: Path, number: int, limits: Limits) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})", file=file) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise DataError(f"is not a zip file, or is damaged ({error})", file=file) from error
    for info in infos:
        if is_picture_name(info.filename):
            yield _member(info, file, number, limits)


def _member(info: zipfile.ZipInfo, file: Path, number: int, limits: Limits) -> Member:
    where, name = f"{file}:{info.filename}", member_id(info.filename)
    why, reason = unsafe_name(info.filename), "unsupported"
    if why is None and info.is_dir():
        why, reason = "is a directory", "unreadable"
    elif why is None and stat.S_ISLNK(info.external_attr >> 16):
        why = "is a link, which is never followed"
    elif why is None and info.flag_bits & _ENCRYPTED:
        why = "is encrypted; make a zip without a password"
    elif why is None and info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        why = f"is compressed by method {info.compress_type}; only stored and deflated members are read"
    elif why is None and max(info.file_size, info.compress_size) > limits.max_bytes:
        why, reason = f"{info.file_size} bytes, the cap is {limits.max_bytes}", "too_large"
    elif why is None and info.file_size > max(_RATIO_FREE, _MOST_RATIO * info.compress_size):
        why, reason = f"expands from {info.compress_size} to {info.file_size} bytes, like a zip bomb", "too_large"
    if why is not None:
        return Member(name, number, refused=refuse(where, why, reason))
    place = (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
    return Member(name, number, place)
