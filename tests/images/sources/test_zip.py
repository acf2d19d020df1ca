"""Zip files: pictures by offset, checksums checked, bombs and tricks counted."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipvil.errors import DataError, ImageError
from clipvil.images.decode import Limits
from clipvil.images.sources import ImageItem, open_source
from tests.images.pictures import jpeg


def build(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def outcome(item: ImageItem) -> bytes | str:
    try:
        return item.read()
    except ImageError as error:
        assert "\n" not in str(error)
        return error.reason


def outcomes(path: str | Path, limits: Limits | None = None) -> dict[str, bytes | str]:
    return {item.image_id: outcome(item) for item in open_source(path, limits=limits)}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_pictures_of_a_zip_in_order_with_everything_else_left_out(tmp_path: Path, method: int) -> None:
    members = {"z.jpg": jpeg(), "a/é\U0001f600.png": b"text" * 5000, "readme.txt": b"x", "__MACOSX/._z.jpg": b"fork"}
    path = build(tmp_path / "x.zip", members, method)
    source = open_source(path)
    assert source.ids() == ["z.jpg", "a/é\U0001f600.png"]
    copy = pickle.loads(pickle.dumps(list(source)))  # noqa: S301 - own bytes, as workers do
    assert [item.read() for item in copy] == [jpeg(), b"text" * 5000]
    assert source[0].where == f"{path}:z.jpg"


def test_members_written_as_a_stream_and_with_junk_in_front(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with path.open("wb") as stream, zipfile.ZipFile(Unseekable(stream), "w", 8) as archive:
        archive.writestr("a.jpg", b"streamed" * 100)
    assert outcomes(path) == {"a.jpg": b"streamed" * 100}
    junk = tmp_path / "junk.zip"
    junk.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert outcomes(junk) == {"a.jpg": b"streamed" * 100}


class Unseekable(io.RawIOBase):
    """Makes zipfile write data descriptors behind the members, as streaming tools do."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self.stream.write(data)


def test_hostile_members_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.jpg", b"good")
        archive.writestr("../climbs.jpg", b"x")
        archive.writestr("/absolute.jpg", b"x")
        archive.writestr("C:\\windows.jpg", b"x")
        archive.writestr("a\\..\\..\\climbs.jpg", b"x")
        archive.writestr("folder.jpg/", b"")
        archive.writestr("empty.jpg", b"")
        archive.writestr("bomb.bmp", bytes(5_000_000))
        archive.writestr("blank.bmp", bytes(500_000))  # as well compressed, but small: a blank picture
        archive.writestr("big.jpg", bytes(range(256)) * 40_000, zipfile.ZIP_STORED)
        archive.writestr("other.jpg", b"x", zipfile.ZIP_BZIP2)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert outcomes(path, Limits(max_bytes=8_000_000)) == {
        "good.jpg": b"good",
        "../climbs.jpg": "unsupported",
        "/absolute.jpg": "unsupported",
        "C:\\windows.jpg": "unsupported",
        "a\\..\\..\\climbs.jpg": "unsupported",
        "folder.jpg/": "unreadable",
        "empty.jpg": "empty",
        "bomb.bmp": "too_large",
        "blank.bmp": bytes(500_000),
        "big.jpg": "too_large",
        "other.jpg": "unsupported",
        "link.jpg": "unsupported",
    }


def test_encrypted_members_say_so(tmp_path: Path) -> None:
    path = build(tmp_path / "x.zip", {"a.jpg": b"secret"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the local header and in the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match="encrypted") as caught:
        open_source(path)[0].read()
    assert caught.value.reason == "unsupported"


def test_a_directory_that_lies_about_size_or_place_is_corrupt(tmp_path: Path) -> None:
    path = build(tmp_path / "x.zip", {"a.bmp": bytes(100_000)})
    whole = path.read_bytes()
    entry = whole.index(b"PK\1\2")
    lies = {
        "size too small": (entry + 24, struct.pack("<I", 10)),
        "size too large": (entry + 24, struct.pack("<I", 200_000)),
        "checksum": (entry + 16, struct.pack("<I", 1)),
        "offset": (entry + 42, struct.pack("<I", 4)),
        "method": (entry + 10, struct.pack("<H", zipfile.ZIP_STORED)),
        "deflate stream": (40, b"\xff\xff\xff"),
    }
    for lie, (position, value) in lies.items():
        damaged = bytearray(whole)
        damaged[position : position + len(value)] = value
        path.write_bytes(damaged)
        assert outcomes(path) == {"a.bmp": "corrupt"}, lie


def test_double_names_and_double_ids_over_two_zips(tmp_path: Path) -> None:
    build(tmp_path / "a.zip", {"1.jpg": b"x"})
    build(tmp_path / "b.zip", {"1.jpg": b"y"})
    with pytest.raises(DataError, match=r"'1\.jpg' occurs twice: .*a\.zip:1\.jpg and .*b\.zip:1\.jpg"):
        open_source(f"{tmp_path}/*.zip")


@pytest.mark.parametrize("content", [b"", b"no zip" * 100, b"PK\3\4" + bytes(100), b"PK\5\6" + bytes(18)])
def test_what_is_no_zip_or_holds_nothing_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"not a zip file|holds no pictures"):
        open_source(tmp_path / "x.zip")


def test_a_zip_that_was_cut_after_it_was_indexed(tmp_path: Path) -> None:
    path = build(tmp_path / "x.zip", {"a.jpg": jpeg(), "b.jpg": jpeg()}, zipfile.ZIP_STORED)
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:200])
    assert [outcome(item) for item in source] == ["truncated", "corrupt"]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_items_or_one_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    members = {"a.jpg": b"a" * 300, "b.jpg": bytes(range(256))}
    damaged = bytearray(build(tmp_path / "x.zip", members).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.zip").write_bytes(damaged[: data.draw(st.integers(0, 2 * len(damaged)))])
    try:
        source = open_source(tmp_path / "x.zip")
    except DataError as error:
        assert "\n" not in str(error)
    else:
        for item in source:
            found = outcome(item)
            if isinstance(found, bytes):  # a checksum of 32 bits stands behind these
                assert zlib.crc32(found) in [zlib.crc32(whole) for whole in members.values()]
