"""LMDB and HDF5 dumps, caption folders, OpenAI-CLIP-Feature files: layouts as others write them, and broken ones."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipvil.errors import DataError, UsageError
from clipvil.features.store import Store
from tests.features.foreign.build import give, grid_store, grids, region_store, take

lmdb = pytest.importorskip("lmdb")
h5py = pytest.importorskip("h5py")


def npz_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def npy_bytes(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def write_lmdb(path: Path, values: dict[str, bytes], *, subdir: bool = False) -> Path:
    with lmdb.open(str(path), subdir=subdir, map_size=1 << 24) as environment, environment.begin(write=True) as t:
        for key, value in values.items():
            t.put(key.encode(), value)
    return path


def test_lmdb_as_the_captioning_code_writes_it(tmp_path: Path) -> None:
    values = {str(n): npz_bytes(feat=grids(n, (3, 4, 6))) for n in range(5)}
    values["__keys__"] = pickle.dumps(["0"])
    for subdir in (False, True):
        path = write_lmdb(tmp_path / f"att{subdir}.lmdb", values, subdir=subdir)
        report = take(path, "lmdb", tmp_path / f"store{subdir}")
        store = Store.open(tmp_path / f"store{subdir}")
        assert report.done == 5 and store.ids() == ["0", "1", "2", "3", "4"]
        assert np.array_equal(store["3"].grid.numpy(), grids(3, (3, 4, 6)))


def test_lmdb_of_regions_without_boxes(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "bu.lmdb", {str(n): npz_bytes(z=grids(n, (10 + n, 6))) for n in range(3)})
    take(path, "lmdb", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.spec.cells == "regions" and store["2"].grid.shape == (12, 1, 6) and store["2"].boxes is None
    out = give(store.path, "clipvil-caption", tmp_path / "out")
    take(out / "features", "clipvil-caption", tmp_path / "back")
    assert np.array_equal(Store.open(tmp_path / "back")["1"].grid[:, 0].numpy(), grids(1, (11, 6)))


def test_broken_values_of_an_lmdb_are_counted(tmp_path: Path) -> None:
    good = npy_bytes(grids(0, (3, 4, 6)))
    values = {
        "a": good,
        "b": good[:-9],
        "c": b"",
        "d": pickle.dumps({"feat": 1}),
        "e": b"msgpack or something",
        "f": npz_bytes(other=grids(0, (3, 4, 6))),
        "g": npz_bytes(feat=np.zeros((1, 1), np.int64)),
        "h": npy_bytes(np.array([None]), allow_pickle=True),
        "i": good,
    }
    report = take(write_lmdb(tmp_path / "x.lmdb", values), "lmdb", tmp_path / "store")
    assert report.reasons == {"truncated": 1, "empty": 1, "unsupported": 3, "corrupt": 1, "misshapen": 1}
    assert Store.open(tmp_path / "store").ids() == ["a", "i"]


def test_an_lmdb_cut_short_is_refused_and_does_not_crash(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "x.lmdb", {str(n): npy_bytes(grids(n, (9, 9, 16))) for n in range(50)})
    whole = path.read_bytes()
    for length in (0, 100, 5000, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            take(path, "lmdb", tmp_path / "store")
        assert "x.lmdb" in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(b"not an lmdb file" * 4000)
    with pytest.raises(DataError, match="cannot be read as LMDB"):
        take(path, "lmdb", tmp_path / "store")


def test_hdf5_with_a_dataset_a_picture(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "att.h5", "w") as file:
        for number in range(4):
            file.create_dataset(str(number), data=grids(number, (3, 4, 6)))
    take(tmp_path / "att.h5", "hdf5", tmp_path / "store")
    assert np.array_equal(Store.open(tmp_path / "store")["2"].grid.numpy(), grids(2, (3, 4, 6)))


def bottom_up(path: Path, *, adaptive: bool, ids: list[str] | None, sizes: bool = True) -> tuple[list[Any], list[Any]]:
    """A file as the converters of bottom-up TSVs write them; pictures are 500 wide and 300 high."""
    counts = [3, 5, 4] if adaptive else [4, 4, 4]
    features = [grids(n, (count, 6)) for n, count in enumerate(counts)]
    boxes = [np.abs(grids(100 + n, (count, 4))) * 50 + 20 for n, count in enumerate(counts)]
    shares = [np.concatenate([box / np.array([500, 300, 500, 300]), box[:, :2]], 1) for box in boxes]
    join = np.concatenate if adaptive else np.stack
    with h5py.File(path, "w") as file:
        file["image_features"] = join(features).astype(np.float32)
        file["image_bb"] = join(boxes).astype(np.float32)
        if sizes:
            file["spatial_features"] = join(shares).astype(np.float32)
        if adaptive:
            ends = np.cumsum(counts)
            file["pos_boxes"] = np.stack([ends - counts, ends], 1)
        if ids is not None:
            file["image_ids"] = np.array(ids, dtype=object) if ids and not ids[0].isdigit() else np.array(ids, int)
    return features, boxes


@pytest.mark.parametrize("adaptive", [False, True])
def test_hdf5_of_bottom_up_regions(adaptive: bool, tmp_path: Path) -> None:
    features, boxes = bottom_up(tmp_path / "val.hdf5", adaptive=adaptive, ids=["42", "73", "74"])
    take(tmp_path / "val.hdf5", "hdf5", tmp_path / "store")
    store = Store.open(tmp_path / "store", check=True)
    assert store.ids() == ["42", "73", "74"] and store.spec.cells == "boxes"
    one = store["73"]
    assert np.array_equal(one.grid[:, 0].numpy(), features[1]) and one.original_size == (300, 500)
    assert one.boxes is not None and np.array_equal(one.boxes.numpy(), boxes[1].astype(np.float32))


def test_hdf5_ids_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "val.hdf5"
    features, _ = bottom_up(path, adaptive=True, ids=None)
    with pytest.raises(UsageError, match=r"imgid2idx\.pkl.*json\.dump"):
        take(path, "hdf5", tmp_path / "a")
    (tmp_path / "ids.json").write_text(json.dumps({"9": 2, "7": 0, "8": 1}))
    take(path, "hdf5", tmp_path / "store", ids_file=tmp_path / "ids.json")
    store = Store.open(tmp_path / "store")
    assert store.ids() == ["7", "8", "9"] and np.array_equal(store["9"].grid[:, 0].numpy(), features[2])
    (tmp_path / "lines.txt").write_text("a\nb\nc\n")
    take(path, "hdf5", tmp_path / "lines", ids_file=tmp_path / "lines.txt")
    assert Store.open(tmp_path / "lines").ids() == ["a", "b", "c"]
    for text, said in (
        ("[1, 2]", "2 ids for 3 pictures"),
        ('{"1": 0, "2": 0, "3": 1}', "no free row"),
        ("{", "not JSON"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match=said):
            take(path, "hdf5", tmp_path / "b", ids_file=tmp_path / "bad.json")
    (tmp_path / "ids.pkl").write_bytes(pickle.dumps({"9": 2}))
    with pytest.raises(DataError, match="a pickle must be turned into JSON"):
        take(path, "hdf5", tmp_path / "b", ids_file=tmp_path / "ids.pkl")


def test_hdf5_boxes_without_a_size_are_left_out(tmp_path: Path) -> None:
    bottom_up(tmp_path / "val.hdf5", adaptive=True, ids=["1", "2", "3"], sizes=False)
    take(tmp_path / "val.hdf5", "hdf5", tmp_path / "store")
    assert Store.open(tmp_path / "store").spec.cells == "regions"


def test_broken_hdf5(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = grids(0, (3, 4, 6))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = grids(0, (3, 4, 6))
        file["b"] = np.ones((3, 4, 6), np.int32)
        file.create_dataset("c", data=["text"], dtype=h5py.string_dtype())
        file["d"] = h5py.ExternalLink(str(other), "secret")
        file.create_group("e")
        file.create_dataset("f", (1 << 20, 1 << 20, 64), "<f4", chunks=(1, 1, 64))
        file["g"] = np.ones((0, 4, 6), np.float32)
        file["h"] = np.float32(1)
        layout = h5py.VirtualLayout((3, 4, 6), "<f4")
        layout[:] = h5py.VirtualSource(str(other), "secret", (3, 4, 6))
        file.create_virtual_dataset("i", layout)
    report = take(tmp_path / "x.h5", "hdf5", tmp_path / "store")
    assert report.done == 1 and report.reasons == {"unsupported": 5, "too_large": 1, "empty": 2}
    (tmp_path / "y.h5").write_bytes((tmp_path / "x.h5").read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        take(tmp_path / "y.h5", "hdf5", tmp_path / "b")


def test_spans_that_lie_outside(tmp_path: Path) -> None:
    path = tmp_path / "val.hdf5"
    bottom_up(path, adaptive=True, ids=["1", "2", "3"])
    with h5py.File(path, "a") as file:
        file["pos_boxes"][1] = (5, 2)
        file["pos_boxes"][2] = (8, 1 << 40)
    report = take(path, "hdf5", tmp_path / "store")
    assert report.done == 1 and report.reasons == {"misshapen": 1, "truncated": 1}


@pytest.mark.parametrize("format", ["lmdb", "hdf5"])
def test_a_missing_package_is_one_line(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, {"lmdb": "lmdb", "hdf5": "h5py"}[format], None)
    with pytest.raises(UsageError, match=r"pip install 'clipvil\[foreign\]'"):
        take(tmp_path / "x", format, tmp_path / "store")
    with pytest.raises(UsageError, match=r"pip install 'clipvil\[foreign\]'"):
        give(grid_store(tmp_path).path, format, tmp_path / "out")


@pytest.mark.parametrize("format", ["bottom-up-tsv", "lmdb", "hdf5"])
def test_one_file_appears_whole_or_not_at_all(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = region_store(tmp_path)
    seen = []

    def stops(self: Store, image_id: str) -> Any:
        seen.append(image_id)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return original(self, image_id)

    original = Store.__getitem__
    monkeypatch.setattr(Store, "__getitem__", stops)
    with pytest.raises(KeyboardInterrupt):
        give(store.path, format, tmp_path / "out")
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clipvil-export.json"]
    give(store.path, format, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_caption_folders_as_their_code_writes_them(tmp_path: Path) -> None:
    for part in ("att", "fc"):
        (tmp_path / f"cocotalk_clip_RN50_{part}").mkdir()
    for number in range(4):
        np.savez_compressed(tmp_path / "cocotalk_clip_RN50_att" / f"{number}.npz", feat=grids(number, (14, 14, 16)))
        np.save(tmp_path / "cocotalk_clip_RN50_fc" / f"{number}.npy", grids(50 + number, (5,)))
    (tmp_path / "cocotalk_clip_RN50_fc" / "2.npy").unlink()
    for name in ("cocotalk_clip_RN50", "cocotalk_clip_RN50_att"):
        report = take(tmp_path / name, "clipvil-caption", tmp_path / f"store-{name}")
        store = Store.open(tmp_path / f"store-{name}")
        assert report.reasons == {"missing": 1} and store.spec.pooled_channels == 5
        assert np.array_equal(store["3"].grid.numpy(), grids(3, (14, 14, 16)))
        pooled = store["3"].pooled
        assert pooled is not None and np.array_equal(pooled.numpy(), grids(53, (5,)))
    report = take(tmp_path / "cocotalk_clip_RN50", "clipvil-caption", tmp_path / "none", pooled=False)
    assert report.done == 4 and Store.open(tmp_path / "none").spec.pooled_channels is None


def test_openai_clip_feature_files(tmp_path: Path) -> None:
    folder = tmp_path / "feats"
    folder.mkdir()
    for number in range(4):
        arrays = {"features": grids(number, (49, 6)), "g_feature": grids(60 + number, (1, 5))}
        np.savez_compressed(folder / f"{number}.npz", **arrays)  # type: ignore[arg-type]
    np.savez_compressed(folder / "a.npz", features=grids(0, (48, 6)), g_feature=grids(1, (1, 5)))
    np.savez_compressed(folder / "b.npz", g_feature=grids(1, (5, 5)))
    np.savez_compressed(folder / "c.npz", features=grids(0, (49, 6)), g_feature=grids(1, (2, 5)))
    np.savez_compressed(folder / "d.npz", features=grids(0, (49, 6)))
    report = take(folder, "openai-clip-npz", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert report.done == 4 and report.reasons == {"misshapen": 4}
    assert np.array_equal(store["2"].grid.numpy(), grids(2, (49, 6)).reshape(7, 7, 6))
    said = {failure.id: failure.message for failure in store.failures()}
    assert "48 cells; no square: say which with --grid HxW" in said["a"] and "no array 'features'" in said["b"]
    assert take(folder, "openai-clip-npz", tmp_path / "flat", grid=(1, 49)).done == 4
