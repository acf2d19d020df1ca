"""Files that lie, break off, or would run code: each gives one clear line, takes no memory, and is counted."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from clipvil.errors import FeatureError
from clipvil.features.foreign.arrays import MAX_BYTES, read_npy_file, read_npz
from clipvil.features.foreign.mmf import read_pth


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, (f"open({str(self.mark)!r}, 'w').close()",))


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def refused(call: object, *arguments: object) -> FeatureError:
    with pytest.raises(FeatureError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert "\n" not in str(caught.value) and str(arguments[0]) in str(caught.value)
    return caught.value


GOOD = npy(np.ones((1, 2, 3, 4), np.float32))
NPY = {
    "nothing": (b"", "empty"),
    "cut in the magic": (GOOD[:4], "truncated"),
    "cut in the header": (GOOD[:40], "truncated"),
    "cut in the data": (GOOD[:-5], "truncated"),
    "bytes behind": (GOOD + b"x", "corrupt"),
    "a picture": (b"\xff\xd8\xff\xe0" + bytes(100), "corrupt"),
    "an odd version": (GOOD[:6] + b"\x09\x00" + GOOD[8:], "unsupported"),
    "a header that is no header": (GOOD[:10] + b"(" * 60 + GOOD[70:], "corrupt"),
    "integers": (npy(np.ones((2, 3, 4), np.int64)), "unsupported"),
    "complex numbers": (npy(np.ones((2, 3, 4), np.complex64)), "unsupported"),
    "records": (npy(np.zeros(3, [("a", "<f4"), ("b", "<f4")])), "unsupported"),
    "no cells": (npy(np.ones((1, 0, 3, 4), np.float32)), "empty"),
    "a huge claim": (header((1, 40000, 40000, 2048)), "too_large"),
    "a huge claim that overflows": (header((1 << 40, 1 << 40, 1 << 40)), "too_large"),
    "a negative claim": (header((-1, 2, 3)) + bytes(24), "empty"),
    "more than is there": (header((8, 8, 2048)) + bytes(64), "truncated"),
}


@pytest.mark.parametrize("name", NPY)
def test_npy(name: str, tmp_path: Path) -> None:
    path = tmp_path / "42.npy"
    data, reason = NPY[name]
    path.write_bytes(data)
    assert refused(read_npy_file, path).reason == reason


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((1, 4, 5, 6)).astype(np.float32)
    for number, kind in enumerate((array, np.asfortranarray(array), array.astype(">f4"), array.astype(np.float16))):
        path = tmp_path / f"{number}.npy"
        np.save(path, kind, allow_pickle=False)
        assert np.array_equal(read_npy_file(path).numpy(), kind)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    objects = np.array([Bomb(mark)], dtype=object)
    (tmp_path / "a.npy").write_bytes(npy(objects, allow_pickle=True))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb(mark)))
    np.savez(tmp_path / "c.npz", feat=objects)
    torch.save({"feature": Bomb(mark)}, tmp_path / "d.pth")
    (tmp_path / "e.pth").write_bytes(pickle.dumps(Bomb(mark)))
    torch.save(torch.ones(2, 3, 4), tmp_path / "f.pth", _use_new_zipfile_serialization=False)
    for name in "ab":
        assert "never read here" in str(refused(read_npy_file, tmp_path / f"{name}.npy"))
    with pytest.raises(FeatureError, match="never read here"):
        read_npz(tmp_path / "c.npz", "c", ["feat"])
    for name in "def":
        error = refused(read_pth, tmp_path / f"{name}.pth")
        assert error.reason == "unsupported" and "where you trust the file" in str(error)
    assert not mark.exists()


def npz(path: Path, data: bytes, **settings: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **settings) as archive:  # type: ignore[arg-type]
        archive.writestr("feat.npy", data)
    return path


def test_a_bomb_of_zeros_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    # 512 MB in half a megabyte.
    count = 2 * MAX_BYTES // 4
    path = npz(tmp_path / "bomb.npz", header((1, count // 2048, 2048)) + bytes(4 * count))
    assert path.stat().st_size < MAX_BYTES // 100
    tracemalloc.start()
    try:
        with pytest.raises(FeatureError) as caught:
            read_npz(path, "bomb", ["feat"])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "too_large"


def test_a_small_zip_that_claims_a_huge_array(tmp_path: Path) -> None:
    path = npz(tmp_path / "liar.npz", header((64, 64, 2048)) + bytes(64))
    with pytest.raises(FeatureError) as caught:
        read_npz(path, "liar", ["feat"])
    assert caught.value.reason == "truncated"


def test_npz(tmp_path: Path) -> None:
    good = npz(tmp_path / "good.npz", GOOD).read_bytes()
    damaged = bytearray(good)
    damaged[60] ^= 0xFF
    for name, data, reason in (
        ("empty", b"", "empty"),
        ("cut", good[:-30], "truncated"),
        ("no zip", b"hello world, this is no zip at all", "truncated"),
        ("damaged", bytes(damaged), "corrupt"),
    ):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        with pytest.raises(FeatureError) as caught:
            read_npz(path, str(path), ["feat"])
        assert caught.value.reason == reason, name
        assert "\n" not in str(caught.value)
    assert read_npz(tmp_path / "good.npz", "good", ["other"]) == [None]


def test_pth(tmp_path: Path) -> None:
    path = tmp_path / "42.pth"
    torch.save(torch.ones(1, 4, 2, 3), path)
    good = path.read_bytes()
    assert read_pth(path).shape == (1, 4, 2, 3)
    for data, reason in ((b"", "empty"), (good[: len(good) // 2], "truncated"), (b"nonsense" * 9, "corrupt")):
        path.write_bytes(data)
        assert refused(read_pth, path).reason == reason
    # A changed bit in the values: torch itself would read them.
    torch.save(torch.ones(1, 4, 2, 3), path)
    damaged = bytearray(good)
    damaged[good.index(torch.ones(4).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(damaged)
    assert not torch.load(path, weights_only=True).eq(1).all()
    assert "fails its checksum" in str(refused(read_pth, path))
    for value in ({"feature": torch.ones(2)}, [torch.ones(2)], torch.ones(2, 3, 4, dtype=torch.int64)):
        torch.save(value, path)
        assert refused(read_pth, path).reason == "unsupported"
    torch.save(torch.ones(1).to_sparse(), path)
    assert refused(read_pth, path).reason == "unsupported"
    # One stored number that claims to be a terabyte.
    torch.save(torch.ones(1, 1, 1).expand(1 << 14, 1 << 14, 2048), path)
    assert refused(read_pth, path).reason == "too_large"


def test_a_pth_that_unpacks_to_more_than_it_holds(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save(torch.zeros(1, 64, 64, 512), plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert refused(read_pth, packed).reason == "unsupported"


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_lie_needs_no_memory(kind: str, tmp_path: Path) -> None:
    """In a process that may take no more than a little memory of its own."""
    data = header((1, 8000, 8000, 2048))
    path = tmp_path / f"liar.{kind}"
    if kind == "npz":
        npz(path, data)
    else:
        path.write_bytes(data)
    code = (
        "import sys, pathlib\n"
        "from clipvil.errors import FeatureError\n"
        "from clipvil.features.foreign import arrays\n"
        "import resource\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "try:\n"
        "    arrays.read_npy_file(path) if path.suffix == '.npy' else arrays.read_npz(path, 'x', ['feat'])\n"
        "except FeatureError as error:\n"
        "    print(error.reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "too_large"
