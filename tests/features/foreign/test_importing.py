from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from clipvil.cli.main import main
from clipvil.errors import DataError, FeatureError, StoreError, UsageError
from clipvil.features.foreign.base import ForeignRecord, ForeignSource
from clipvil.features.foreign.importing import import_features
from clipvil.features.info import describe
from clipvil.features.store import Store
from clipvil.features.verify import verify
from tests.features.build import contents
from tests.features.foreign.build import grids, take


def folder_of(path: Path, count: int = 10, shape: tuple[int, ...] = (1, 3, 4, 6), dtype: str = "float32") -> Path:
    path.mkdir()
    for number in range(count):
        np.save(path / f"COCO_val2014_{number:012d}.npy", grids(number, shape).astype(dtype))
    return path


def name(number: int) -> str:
    return f"COCO_val2014_{number:012d}"


def break_some(folder: Path) -> dict[str, str]:
    """Damage five of the ten; id -> reason."""
    good = (folder / f"{name(1)}.npy").read_bytes()
    (folder / f"{name(0)}.npy").write_bytes(b"")
    (folder / f"{name(2)}.npy").write_bytes(good[:200])
    np.save(folder / f"{name(3)}.npy", np.ones((1, 3, 4, 6), np.int32))
    array = grids(5, (1, 3, 4, 6))
    array[0, 1, 1, 1] = np.nan
    np.save(folder / f"{name(5)}.npy", array)
    np.save(folder / f"{name(7)}.npy", np.ones((1, 3, 4, 7), np.float32))
    reasons = ("empty", "truncated", "unsupported", "not_finite", "misshapen")
    return dict(zip(map(name, (0, 2, 3, 5, 7)), reasons, strict=True))


def test_bad_files_are_counted_and_the_others_kept(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files")
    reasons = break_some(folder)
    report = take(folder, "mmf-npy", tmp_path / "store", shard_size=4, max_bad=4)
    store = Store.open(tmp_path / "store", check=True)
    assert (report.done, report.failed, report.exit_code) == (5, 5, 3)
    assert report.reasons == dict.fromkeys(reasons.values(), 1)
    failures = store.failures()
    assert {failure.id: failure.reason for failure in failures} == reasons
    assert all(str(folder) in failure.path and "\n" not in failure.message for failure in failures)
    for number in (1, 4, 6, 8, 9):
        assert np.array_equal(store[name(number)].grid.numpy(), grids(number, (1, 3, 4, 6))[0])
    assert verify(store.path).ok


def test_as_many_bad_files_as_allowed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files")
    break_some(folder)
    assert take(folder, "mmf-npy", tmp_path / "a", max_bad="50%").exit_code == 0
    assert take(folder, "mmf-npy", tmp_path / "b").exit_code == 0
    arguments = ["features", "import", str(folder), "--format", "mmf-npy", "--encoder-name", "x", "--max-bad", "0"]
    assert main([*arguments, "--out", str(tmp_path / "c")]) == 3


def test_mended_files_are_taken_in_by_a_retry(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files")
    break_some(folder)
    take(folder, "mmf-npy", tmp_path / "store", shard_size=4)
    np.save(folder / f"{name(0)}.npy", grids(0, (1, 3, 4, 6)))
    np.save(folder / f"{name(3)}.npy", grids(3, (1, 3, 4, 6)))
    report = take(folder, "mmf-npy", tmp_path / "store", shard_size=4, retry_failed=True)
    store = Store.open(tmp_path / "store", check=True)
    assert (report.done, report.failed) == (2, 3) and len(store) == 7 and verify(store.path).ok
    assert np.array_equal(store[name(3)].grid.numpy(), grids(3, (1, 3, 4, 6))[0])


def test_nothing_readable_is_one_line_and_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.npy").write_bytes(b"not this")
    arguments = ["features", "import", str(folder), "--format", "mmf-npy", "--encoder-name", "x"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and "not one of 3 pictures can be read" in said and "0.npy" in said
    assert not (tmp_path / "out").exists()


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 400, (1, 8, 8, 64))
    break_some(folder)
    take(folder, "mmf-npy", tmp_path / "whole", shard_size=16)
    command = [
        sys.executable, "-m", "clipvil.cli.main", "features", "import", str(folder), "--format", "mmf-npy",
        "--encoder-name", "theirs", "--shard-size", "16", "--out", str(tmp_path / "killed"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list(tmp_path.glob("killed/shard-*.index.safetensors"))) < 3:
        time.sleep(0.005)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    report = take(folder, "mmf-npy", tmp_path / "killed", shard_size=16)
    assert report.complete and report.skipped >= 40
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_two_processes_share_a_store(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files")
    take(folder, "mmf-npy", tmp_path / "whole", shard_size=3)
    first = take(folder, "mmf-npy", tmp_path / "parts", shard_size=3, shard="1/2")
    assert not first.complete
    assert take(folder, "mmf-npy", tmp_path / "parts", shard_size=3, shard="2/2").complete
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_threads_change_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 40)
    break_some(folder)
    take(folder, "mmf-npy", tmp_path / "none", shard_size=8, workers=0)
    take(folder, "mmf-npy", tmp_path / "four", shard_size=8, workers=4)
    assert contents(tmp_path / "none") == contents(tmp_path / "four")


def test_a_store_takes_nothing_else_in(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files")
    take(folder, "mmf-npy", tmp_path / "store")
    with pytest.raises(StoreError, match="encoder is theirs"):
        import_features(folder, format="mmf-npy", encoder_name="another", out=tmp_path / "store", progress=False)
    with pytest.raises(StoreError, match="dtype is float32 there, float16 asked"):
        take(folder, "mmf-npy", tmp_path / "store", dtype="float16")
    (folder / "extra.npy").write_bytes((folder / f"{name(1)}.npy").read_bytes())
    with pytest.raises(StoreError, match="pictures is"):
        take(folder, "mmf-npy", tmp_path / "store")


def test_the_type_of_the_files_is_kept(tmp_path: Path) -> None:
    half = folder_of(tmp_path / "half", dtype="float16")
    np.save(half / f"{name(4)}.npy", grids(4, (1, 3, 4, 6)))
    report = take(half, "mmf-npy", tmp_path / "a")
    failures = Store.open(tmp_path / "a").failures()
    assert Store.open(tmp_path / "a").manifest.dtype == "float16" and report.reasons == {"unsupported": 1}
    assert "unrounded" in failures[0].message and "--dtype" in failures[0].message
    assert take(half, "mmf-npy", tmp_path / "b", dtype="float32").failed == 0
    double = folder_of(tmp_path / "double", dtype="float64")
    with pytest.raises(UsageError, match="--dtype float32"):
        take(double, "mmf-npy", tmp_path / "c")


def test_values_that_float16_cannot_hold(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files")
    np.save(folder / f"{name(4)}.npy", 1e6 * grids(4, (1, 3, 4, 6)))
    take(folder, "mmf-npy", tmp_path / "store", dtype="float16")
    failure = Store.open(tmp_path / "store").failures()[0]
    assert failure.reason == "not_finite" and "too large for float16" in failure.message


def test_file_names_to_ids(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 3)
    (folder / "000000000007.npy").write_bytes((folder / f"{name(1)}.npy").read_bytes())
    (folder / "dog.npy").write_bytes((folder / f"{name(1)}.npy").read_bytes())
    take(folder, "mmf-npy", tmp_path / "stem")
    assert set(Store.open(tmp_path / "stem").ids()) == {name(0), name(1), name(2), "000000000007", "dog"}
    take(folder, "mmf-npy", tmp_path / "coco", ids="coco")
    assert set(Store.open(tmp_path / "coco").ids()) == {"0", "1", "2", "7", "dog"}


def test_two_files_of_one_picture(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 3)
    (folder / "000000000001.npy").write_bytes((folder / f"{name(2)}.npy").read_bytes())
    report = take(folder, "mmf-npy", tmp_path / "store", ids="coco")
    store = Store.open(tmp_path / "store")
    assert report.reasons == {"duplicate": 1} and sorted(store.ids()) == ["0", "1", "2"]
    # The first in the order of names is kept.
    assert np.array_equal(store["1"].grid.numpy(), grids(2, (1, 3, 4, 6))[0])
    failure = store.failures()[0]
    assert failure.id == "1#2" and "000000000001.npy" in failure.message and verify(store.path).ok


def test_repeated_ids_get_names_that_are_free() -> None:
    def fail(row: int) -> ForeignRecord:
        return ForeignRecord(torch.ones(1, 1, 1))

    source = ForeignSource("s", ["a", "a", "a#2", "a"], str, fail)
    assert source.ids() == ["a", "a#3", "a#2", "a#4"] and len(set(source.ids())) == 4
    assert [item.image_id for item in source] == source.ids()
    for row in (1, 3):
        with pytest.raises(FeatureError, match="stands in 0 already"):
            source[row].read()
    assert source[2].read().grid.shape == (1, 1, 1)


def test_side_files_of_the_detector_are_left_out(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 2)
    np.save(folder / f"{name(0)}_info.npy", np.array([{"boxes": 1}], object), allow_pickle=True)
    report = take(folder, "mmf-npy", tmp_path / "store")
    assert (report.done, report.failed) == (2, 0)


def test_the_layout_is_said_and_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(3):
        torch.save(torch.from_numpy(grids(number, (1, 3, 4, 6))), folder / f"{number}.pth")
    with pytest.raises(UsageError, match="mmf-pth needs --layout"):
        take(folder, "mmf-pth", tmp_path / "a")
    take(folder, "mmf-pth", tmp_path / "hwc", layout="hwc")
    assert np.array_equal(Store.open(tmp_path / "hwc")["1"].grid.numpy(), grids(1, (1, 3, 4, 6))[0])
    with pytest.raises(DataError, match="use --layout hwc, or --channels 3"):
        take(folder, "mmf-pth", tmp_path / "b", layout="chw")
    with pytest.raises(DataError, match="gives 3 channels, 6 asked; it fits --layout hwc"):
        take(folder, "mmf-pth", tmp_path / "c", layout="chw", channels=6)
    take(folder, "mmf-pth", tmp_path / "odd", layout="chw", channels=3)
    assert np.array_equal(Store.open(tmp_path / "odd")["1"].grid.numpy(), grids(1, (3, 4, 6)).transpose(1, 2, 0))


def test_options_that_say_nothing_and_formats_that_are_not(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 2)
    with pytest.raises(UsageError, match="--grid says nothing about the format mmf-npy"):
        take(folder, "mmf-npy", tmp_path / "a", grid=(3, 4))
    with pytest.raises(UsageError, match="unknown format 'tsv'; known: mmf-npy"):
        take(folder, "tsv", tmp_path / "a")
    with pytest.raises(DataError, match=r"holds no \.pth files"):
        take(folder, "mmf-pth", tmp_path / "a", layout="chw")
    arguments = ["features", "import", str(folder), "--format", "openai-clip-npz", "--encoder-name", "x", "--out", "y"]
    assert main([*arguments, "--grid", "18by31"]) == 2
    assert main([*arguments, "--layout", "nhwc"]) == 2


def test_what_the_store_says_of_itself(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 3)
    take(folder, "mmf-npy", tmp_path / "store")
    about = describe(tmp_path / "store")
    text = "\n".join(about.lines())
    assert "theirs" in text and "computed elsewhere" in text and "precision   imported" in text
    assert "6 channels" in text and about.cost == {}
    assert main(["features", "info", str(tmp_path / "store"), "--json"]) == 0


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "files", 48, (1, 16, 16, 1024))  # a megabyte each
    tracemalloc.start()
    try:
        take(folder, "mmf-npy", tmp_path / "store", workers=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_the_commands_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "files", 3, (1, 9, 9, 6))
    store, out, back = (str(tmp_path / name) for name in ("store", "out", "back"))
    arguments = ["--encoder-name", "theirs", "--channels", "6"]
    assert main(["features", "import", str(folder), "--format", "mmf-npy", "--out", store, *arguments]) == 0
    assert main(["features", "export", store, "--format", "mmf-pth", "--out", out]) == 0
    # The note beside the files has the command that brings them back.
    command = json.loads((tmp_path / "out" / "clipvil-export.json").read_text())["import"]
    words = [{"DIR": out, "NAME": "theirs", "STORE": back}.get(word, word) for word in shlex.split(command)]
    assert words[0] == "clipvil" and main(words[1:]) == 0
    assert np.array_equal(Store.open(back)[name(2)].grid.numpy(), grids(2, (1, 9, 9, 6))[0])
    assert "3 pictures imported, complete" in capsys.readouterr().err
    assert main(["features", "verify", back]) == 0
    assert main(["features", "export", store, "--format", "bottom-up-tsv", "--out", str(tmp_path / "x")]) == 2
    assert "holds grids" in capsys.readouterr().err


def test_an_extraction_does_not_go_on_in_an_import(tmp_path: Path) -> None:
    from PIL import Image

    from clipvil.features.extract import extract

    take(folder_of(tmp_path / "files", 2), "mmf-npy", tmp_path / "store")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(StoreError, match="holds other features: encoder is theirs"):
        extract(str(tmp_path / "a.png"), encoder="mini/random", out=tmp_path / "store", progress=False)
