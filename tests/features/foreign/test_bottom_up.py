from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
import torch

from clipvil.cli.main import main
from clipvil.errors import DataError
from clipvil.features.store import Store
from clipvil.features.verify import verify
from tests.features.foreign.build import grids, region_store, take, tsv_line, write_tsv


def test_regions_come_with_boxes_and_a_mask(tmp_path: Path) -> None:
    store = region_store(tmp_path)
    assert store.spec.cells == "boxes" and store.spec.grid_channels == 5 and len(store) == 6
    one = store["101"]
    assert one.grid.shape == (13, 1, 5) and one.original_size == (480, 640)
    assert np.array_equal(one.grid[:, 0].numpy(), grids(1, (13, 5)))
    boxes = np.abs(grids(1001, (13, 4))) * 100
    assert one.boxes is not None and np.array_equal(one.boxes.numpy(), boxes)
    batch = store.batch(["100", "101", "102", "101"])
    assert batch.cells.shape == (4, 16, 5) and batch.shapes.tolist() == [[10, 1], [13, 1], [16, 1], [13, 1]]
    assert batch.mask is not None and batch.mask.sum(1).tolist() == [10, 13, 16, 13]
    assert batch.boxes is not None and batch.boxes.shape == (4, 16, 4)
    assert torch.allclose(batch.boxes[1, :13], torch.from_numpy(boxes / np.array([640, 480, 640, 480], np.float32)))
    assert not batch.boxes[1, 13:].any() and not batch.cells[1, 13:].any()
    assert torch.equal(batch.boxes[1], batch.boxes[3])


def test_damage_to_boxes_is_found(tmp_path: Path) -> None:
    store = region_store(tmp_path)
    path = tmp_path / "regions" / "shard-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # the last thing in the file are the boxes
    path.write_bytes(data)
    assert not verify(store.path).ok


def test_parts_in_a_folder_and_a_head_line(tmp_path: Path) -> None:
    lines = [tsv_line(str(n), n, 10) for n in range(4)]
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "all.tsv.0").write_bytes(
        b"image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n" + lines[0] + lines[1]
    )
    (folder / "all.tsv.1").write_bytes(lines[2] + b"\n" + lines[3].rstrip(b"\n"))
    (folder / "readme.txt").write_text("nothing")
    assert take(folder, "bottom-up-tsv", tmp_path / "store").done == 4
    assert Store.open(tmp_path / "store").ids() == ["0", "1", "2", "3"]


def test_the_ten_columns_of_lxmert(tmp_path: Path) -> None:
    image_id, width, height, count, boxes, features = tsv_line("COCO_val2014_000000000042", 3, 36).rstrip().split(b"\t")
    none = base64.b64encode(bytes(4))
    line = b"\t".join([image_id, height, width, none, none, none, none, count, boxes, features]) + b"\n"
    (tmp_path / "val.tsv").write_bytes(line)
    take(tmp_path / "val.tsv", "bottom-up-tsv", tmp_path / "store", ids="coco")
    one = Store.open(tmp_path / "store")["42"]
    assert one.original_size == (480, 640) and np.array_equal(one.grid[:, 0].numpy(), grids(3, (36, 5)))


def test_lines_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long.tsv"
    path.write_bytes(b"".join(tsv_line(str(n), n, 100, 2048) for n in range(3)))
    assert path.stat().st_size > 3 << 20
    take(path, "bottom-up-tsv", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert all(np.array_equal(store[str(n)].grid[:, 0].numpy(), grids(n, (100, 2048))) for n in range(3))


GOOD = tsv_line("7", 7, 10)
FIELDS = GOOD.rstrip(b"\n").split(b"\t")


def line(**changes: bytes) -> bytes:
    names = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
    return b"\t".join(changes.get(name, field) for name, field in zip(names, FIELDS, strict=True)) + b"\n"


NAN = base64.b64encode(np.full((10, 5), np.nan, "<f4").tobytes())
BROKEN = {
    "cut in the middle": (GOOD[: len(GOOD) // 2] + b"\n", "truncated"),
    "three columns": (b"\t".join(FIELDS[:3]) + b"\n", "truncated"),
    "eight columns": (b"\t".join([*FIELDS, b"1", b"2"]) + b"\n", "corrupt"),
    "no id": (line(image_id=b""), "corrupt"),
    "no number of boxes": (line(num_boxes=b"many"), "corrupt"),
    "no boxes": (line(num_boxes=b"0"), "corrupt"),
    "no width": (line(image_w=b"-640"), "corrupt"),
    "more boxes than said": (line(num_boxes=b"9"), "misshapen"),
    "fewer boxes than said": (line(num_boxes=b"11"), "truncated"),
    "no base64": (line(features=b"!" + FIELDS[5][1:]), "corrupt"),
    "empty features": (line(features=b""), "empty"),
    "half a number": (line(features=base64.b64encode(bytes(10 * 5 * 4 - 2))), "truncated"),
    "other channels": (line(features=base64.b64encode(bytes(10 * 6 * 4))), "misshapen"),
    "not a number": (line(features=NAN), "not_finite"),
    "an infinite box": (line(boxes=base64.b64encode(np.full((10, 4), np.inf, "<f4").tobytes())), "not_finite"),
    "the same picture again": (tsv_line("100", 9, 10), "duplicate"),
    "a pickle": (b"7\t640\t480\t10\tgASVBQAAAAAAAACMAXiULg==\t" + FIELDS[5] + b"\n", "truncated"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_counted(name: str, tmp_path: Path) -> None:
    data, reason = BROKEN[name]
    path = write_tsv(tmp_path / "some.tsv", 3)
    path.write_bytes(path.read_bytes() + data + tsv_line("200", 200, 10))
    report = take(path, "bottom-up-tsv", tmp_path / "store", max_bad=0)
    assert (report.done, report.reasons, report.exit_code) == (4, {reason: 1}, 3)
    store = Store.open(tmp_path / "store", check=True)
    assert store.ids() == ["100", "101", "102", "200"] and verify(store.path).ok
    assert "some.tsv" in store.failures()[0].message and "\n" not in store.failures()[0].message


def test_what_python_3_scripts_print_of_bytes_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "bytes.tsv"
    path.write_bytes(line(boxes=b"b'" + FIELDS[4] + b"'", features=b"b'" + FIELDS[5] + b"'"))
    take(path, "bottom-up-tsv", tmp_path / "store")
    assert np.array_equal(Store.open(tmp_path / "store")["7"].grid[:, 0].numpy(), grids(7, (10, 5)))


def test_files_that_are_not_there_or_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(DataError, match="is empty"):
        take(tmp_path / "empty.tsv", "bottom-up-tsv", tmp_path / "a")
    with pytest.raises(DataError, match="no such file"):
        take(tmp_path / "absent.tsv", "bottom-up-tsv", tmp_path / "a")
    (tmp_path / "bin.tsv").write_bytes(bytes(5000))
    arguments = ["features", "import", str(tmp_path / "bin.tsv"), "--format", "bottom-up-tsv", "--encoder-name", "x"]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 1
