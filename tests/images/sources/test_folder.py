"""Folders: everything that looks like a picture is an item, nothing hangs, nothing is followed for ever."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from clipvil.errors import DataError, ImageError
from clipvil.images.decode import Limits
from clipvil.images.sources import ImageItem, open_source
from tests.images.pictures import jpeg


def reason(item: ImageItem) -> str:
    with pytest.raises(ImageError) as caught:
        item.read()
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_pictures_below_a_folder_sorted_by_relative_path(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/z.PNG", "a/b/c.webp", "a.txt", ".hidden.gif", "no_suffix", "a/list.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    source = open_source(tmp_path)
    assert source.ids() == [".hidden.gif", "a/b/c.webp", "a/z.PNG", "b.jpg"]
    assert source.name == tmp_path.name
    assert [item.read() for item in source] == [name.encode() for name in source.ids()]
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301 - own bytes, as workers do
    assert copy[1].read() == b"a/b/c.webp"


def test_strange_names_are_ordinary_items(tmp_path: Path) -> None:
    names = [
        "new\nline.jpg",
        "\U0001f600.png",
        "two  spaces.jpg",
        "-rf.jpg",
        "%s{0}.jpg",
        "quote'\".jpg",
        "\u00e9.jpg",
        "e\u0301.jpg",
    ]
    for name in names:
        (tmp_path / name).write_bytes(jpeg())
    (tmp_path / os.fsdecode(b"latin\xe9.jpg")).write_bytes(b"latin")
    source = open_source(tmp_path)
    assert sorted(source.ids()) == sorted([*names, "latin\\xe9.jpg"])
    assert all("\n" not in item.where and item.where.isprintable() for item in source)
    assert source.find("latin\\xe9.jpg").read() == b"latin"
    assert all(item.image_id.encode("utf-8") for item in source)


def test_ids_that_only_escaping_makes_equal_are_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xe9.jpg")).write_bytes(b"1")
    (tmp_path / "\\xe9.jpg").write_bytes(b"2")
    with pytest.raises(DataError, match="occurs twice"):
        open_source(tmp_path)


def test_what_only_looks_like_a_picture_fails_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "inside.jpg").write_bytes(b"x")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    source = open_source(tmp_path)
    assert {item.image_id: reason(item) for item in source if item.image_id != "folder.jpg/inside.jpg"} == {
        "folder.jpg": "unreadable",
        "empty.jpg": "empty",
        "dangling.jpg": "missing",
        "self.jpg": "unreadable",
        "zero.jpg": "unreadable",
        "pipe.jpg": "unreadable",
    }
    assert source.find("folder.jpg/inside.jpg").read() == b"x"


def test_a_path_through_a_file_and_a_file_that_vanished_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no folder")
    (tmp_path / "list.csv").write_text("image\na.txt/b.jpg\n")
    assert reason(open_source(tmp_path / "list.csv")[0]) == "missing"
    (tmp_path / "gone.jpg").write_bytes(b"x")
    item = open_source(tmp_path).find("gone.jpg")
    (tmp_path / "gone.jpg").unlink()
    assert reason(item) == "missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; permissions cannot be tested")
def test_forbidden_files_and_folders_are_counted(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        assert {item.image_id: reason(item) for item in open_source(tmp_path)} == {
            "b.jpg": "unreadable",
            "closed": "unreadable",
        }
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_the_byte_cap_is_checked_before_reading(tmp_path: Path) -> None:
    with (tmp_path / "sparse.jpg").open("wb") as stream:
        stream.truncate(2**40)  # a terabyte that takes no room; reading it would not end
    (tmp_path / "fits.jpg").write_bytes(bytes(100))
    source = open_source(tmp_path, limits=Limits(max_bytes=100))
    assert reason(source.find("sparse.jpg")) == "too_large"
    assert len(source.find("fits.jpg").read()) == 100


def test_links_are_followed_once_and_cycles_end(tmp_path: Path) -> None:
    pictures, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    (pictures / "real").mkdir(parents=True)
    (elsewhere / "deep").mkdir(parents=True)
    (pictures / "real" / "a.jpg").write_bytes(b"a")
    (elsewhere / "deep" / "b.jpg").write_bytes(b"b")
    (pictures / "aaa_alias_of_real").symlink_to("real")
    (pictures / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(pictures)
    (pictures / "real" / "up").symlink_to("..")
    (pictures / "c.jpg").symlink_to(elsewhere / "deep" / "b.jpg")
    # The real path of a folder wins over its aliases, whatever the alphabet says.
    assert open_source(pictures).ids() == ["c.jpg", "linked/deep/b.jpg", "real/a.jpg"]


def test_a_folder_without_pictures_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures below"):
        open_source(tmp_path)
    (tmp_path / "shard-000.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"\*\.tar"):
        open_source(tmp_path)
