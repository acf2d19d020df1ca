"""Which kind of source a path is, and how a wrong path is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.errors import ClipvilError, DataError, UsageError
from clipvil.images.sources import KINDS, open_source
from tests.images.pictures import jpeg


def test_a_single_picture_is_a_source_of_one(tmp_path: Path) -> None:
    (tmp_path / "a b.JPG").write_bytes(jpeg())
    source = open_source(str(tmp_path / "a b.JPG"))
    assert (len(source), source.name, source[0].image_id, source[0].read()) == (1, "a b.JPG", "a b.JPG", jpeg())


def test_brackets_and_braces_in_names_that_exist_are_no_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "odd [1] {0..3} *?"
    folder.mkdir()
    (folder / "x[0].jpg").write_bytes(b"x")
    assert open_source(folder).ids() == ["x[0].jpg"]
    assert open_source(folder / "x[0].jpg")[0].read() == b"x"


@pytest.mark.parametrize(
    ("path", "options", "error", "message"),
    [
        ("nowhere", {}, DataError, "does not exist"),
        ("nowhere.tar", {}, DataError, "does not exist"),
        ("nowhere.zip", {"kind": "zip"}, DataError, "does not exist"),
        ("nowhere/*.tar", {}, DataError, "no file matches"),
        ("notes.txt", {}, UsageError, "cannot tell what kind .* give one of folder, csv"),
        ("notes.txt", {"kind": "parquet"}, UsageError, "unknown kind of picture source 'parquet'; known: folder"),
        ("list-{1..2}.csv", {}, UsageError, "a pattern is for tar and zip"),
        ("s-{0..99999999}.tar", {}, UsageError, "names 100000000 files"),
        (".", {"images": Path()}, UsageError, "goes with a list"),
        ("list-1.csv", {"kind": "folder"}, DataError, "not a folder"),
    ],
)
def test_wrong_requests_are_one_clear_line(
    tmp_path: Path, path: str, options: dict[str, object], error: type[ClipvilError], message: str
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for number in (1, 2):
        (tmp_path / f"list-{number}.csv").write_text(f"image\n{number}.jpg\n")
    with pytest.raises(error, match=message) as caught:
        open_source(f"{tmp_path}/{path}", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_does_not_fit_the_path_is_a_clear_error(tmp_path: Path, kind: str) -> None:
    (tmp_path / "wrong").write_bytes(b"\x00\xff nothing of the kind \n")
    with pytest.raises(DataError):
        open_source(tmp_path / "wrong", kind=kind)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        open_source(tmp_path / "empty", kind=kind)
