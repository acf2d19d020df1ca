"""CSV, JSONL, COCO and Karpathy lists; every fault names file, row and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipvil.errors import ClipvilError, DataError, ImageError
from clipvil.images.sources import open_source


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, (dict, list)):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def places(path: Path, **options: Any) -> dict[str, bytes]:
    return {item.image_id: item.read() for item in open_source(path, **options)}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("a.jpg", "sub/b.jpg", "c d,é.png"):
        write(tmp_path / name, name)
    return tmp_path


@pytest.mark.parametrize("column", ["image", "path", "file_name"])
def test_csv_with_and_without_ids(pictures: Path, column: str) -> None:
    plain = write(pictures / "list.csv", f'label,{column}\ncat,a.jpg\ndog,"c d,é.png"\n')
    assert places(plain) == {"a.jpg": b"a.jpg", "c d,é.png": "c d,é.png".encode()}
    for key in ("id", "image_id"):
        named = write(pictures / "ids.csv", f"\ufeff{column},{key}\r\na.jpg,007\r\nsub/b.jpg,8\r\n")
        assert places(named) == {"007": b"a.jpg", "8": b"sub/b.jpg"}
    tabs = write(pictures / "list.tsv", f"{column}\tid\na.jpg\t1\n")
    assert places(tabs) == {"1": b"a.jpg"}


def test_jsonl_with_numbers_as_ids_and_blank_lines(pictures: Path) -> None:
    listed = write(pictures / "list.jsonl", '{"image": "a.jpg", "id": 7}\n\n{"path": "sub/b.jpg", "image_id": "x"}')
    assert places(listed) == {"7": b"a.jpg", "x": b"sub/b.jpg"}


def test_coco_and_karpathy_are_told_apart(pictures: Path) -> None:
    coco = write(pictures / "instances.json", {"images": [{"id": 9, "file_name": "a.jpg"}], "annotations": []})
    assert places(coco) == places(coco, kind="coco") == {"9": b"a.jpg"}
    karpathy = write(
        pictures / "dataset_coco.json",
        {"images": [{"filepath": "sub", "filename": "b.jpg", "cocoid": 391895, "imgid": 0}], "dataset": "coco"},
    )
    assert places(karpathy) == {"391895": b"sub/b.jpg"}
    flickr = write(pictures / "dataset_flickr8k.json", {"images": [{"filename": "a.jpg", "imgid": 3}]})
    assert places(flickr) == {"3": b"a.jpg"}


def test_relative_paths_start_at_the_list_or_at_images(pictures: Path) -> None:
    elsewhere = write(pictures / "lists" / "list.csv", "image\nb.jpg\n")
    assert places(elsewhere, images=pictures / "sub") == {"b.jpg": b"sub/b.jpg"}
    with pytest.raises(ImageError, match=r"lists/b\.jpg: does not exist"):
        open_source(elsewhere)[0].read()
    absolute = write(pictures / "lists" / "absolute.csv", f"image,id\n{pictures / 'a.jpg'},1\n")
    assert places(absolute, images=pictures / "sub") == {"1": b"a.jpg"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"row 1: the header has no column image or path or file_name: \[\]"),
        ("a.csv", "picture,id\na.jpg,1\n", r"a\.csv, row 1: the header has no column .*'picture'"),
        ("a.csv", "image\n", "lists no pictures"),
        ("a.csv", "image,id\na.jpg,1\n,2\n", r"row 3, field 'image': is missing, empty"),
        ("a.csv", "id,image\n1,a.jpg\n2\n", r"row 3, field 'image': is missing"),
        ("a.csv", "image,id\na.jpg,1\nb.jpg,1\n", r"row 3: picture id '1' is already on row 2; list each"),
        ("a.csv", "image\na.jpg\na.jpg\n", r"row 3: picture id 'a.jpg' is already on row 2"),
        ("a.csv", b"image\n\xff\xfe\n", "is not readable CSV"),
        ("a.csv", "image\n" + "x" * 200_000 + "\n", "row 2: is not readable CSV .*field larger than"),
        ("a.jsonl", '{"image": "a.jpg"}\n{"image": \n', r"a\.jsonl, row 2: is not JSON"),
        ("a.jsonl", '["a.jpg"]\n', "row 1: is not a JSON object"),
        ("a.jsonl", '{"image": 1.5}\n', "row 1, field 'image'"),
        ("a.jsonl", '{"image": "a.jpg", "id": true}\n', "row 1, field 'id'"),
        ("a.jsonl", '{"image": "a.jpg", "id": ""}\n', "row 1, field 'id'"),
        ("a.jsonl", b'{"image": "\xff"}\n', "row 1: is not JSON"),
        ("a.jsonl", "[" * 100_000, "row 1: is not JSON"),
        ("a.jsonl", '{"image": "' + "x" * 2**24 + '"}', "row 1: the line is longer"),
        ("a.jsonl", "\n\n", "lists no pictures"),
        ("a.json", "[1, 2]", "neither COCO nor Karpathy"),
        ("a.json", "{}", "no list 'images'"),
        ("a.json", '{"images": {}}', "no list 'images'"),
        ("a.json", '{"images": []}', "lists no pictures"),
        ("a.json", '{"images": [7]}', r"row images\[0\]: is not a JSON object"),
        ("a.json", '{"images": [{"id": 1}]}', "neither 'file_name'"),
        ("a.json", '{"images": [{"file_name": "a.jpg"}]}', r"row images\[0\], field 'id'"),
        ("a.json", {"images": [{"file_name": name, "id": 1} for name in "ab"]}, r"row images\[1\]: picture id '1'"),
        ("a.json", '{"images": [{"filename": "a.jpg"}]}', r"row images\[0\], field 'imgid'"),
        ("a.json", '{"images": [', "is not JSON"),
    ],
)  # fmt: skip
def test_faults_name_file_row_and_field_in_one_line(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_source(write(tmp_path / name, content))
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80), start=st.sampled_from([b"", b"image,id\n", b'{"image": "a"}\n', b'{"images": [']))
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_any_bytes_are_a_list_or_one_clear_error(tmp_path: Path, suffix: str, data: bytes, start: bytes) -> None:
    path = write(tmp_path / f"x.{suffix}", start + data)
    try:
        source = open_source(path)
    except ClipvilError as error:
        assert "\n" not in str(error)
    else:
        for item in source:
            with pytest.raises(ImageError):
                item.read()
