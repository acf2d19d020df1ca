"""Must-show 6: what goes out in a foreign format and comes back is equal, value by value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clipvil.errors import StoreError, UsageError
from clipvil.features.store import Store
from clipvil.features.verify import verify
from tests.features.foreign.build import IDS, give, grid_store, region_store, same, take

# format -> where inside the export the importer looks, and the options it needs
GRIDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mmf-npy": (".", {}),
    "mmf-pth": (".", {"layout": "chw"}),
    "clipvil-caption": ("features", {}),
    "openai-clip-npz": (".", {"grid": (2, 3)}),
    "lmdb": ("features.lmdb", {}),
    "hdf5": ("features.h5", {}),
}
REGIONS = {"bottom-up-tsv": "features.tsv", "lmdb": "features.lmdb", "hdf5": "features.h5"}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("format", GRIDS)
def test_grids_come_back_equal(format: str, dtype: str, tmp_path: Path) -> None:
    store = grid_store(tmp_path, dtype=dtype)
    out = give(store.path, format, tmp_path / "out")
    inside, options = GRIDS[format]
    report = take(out / inside, format, tmp_path / "back", **options)
    back = Store.open(tmp_path / "back", check=True)
    assert (report.done, report.failed, report.exit_code, report.complete) == (len(IDS), 0, 0, True)
    same(store, back)
    # The files are float32 but for the .pth, which keep their type.
    assert back.manifest.dtype == (dtype if format == "mmf-pth" else "float32")
    assert verify(back.path).ok


@pytest.mark.parametrize("format", ["clipvil-caption", "openai-clip-npz"])
def test_pooled_vectors_come_back_equal(format: str, tmp_path: Path) -> None:
    store = grid_store(tmp_path)
    inside, options = GRIDS[format]
    take(give(store.path, format, tmp_path / "out") / inside, format, tmp_path / "back", **options)
    back = Store.open(tmp_path / "back")
    for image_id in IDS:
        first, second = store[image_id].pooled, back[image_id].pooled
        assert first is not None and second is not None and torch.equal(first.double(), second.double())


@pytest.mark.parametrize("format", ["mmf-npy", "mmf-pth", "clipvil-caption", "lmdb", "hdf5"])
def test_grids_of_several_shapes_come_back_equal(format: str, tmp_path: Path) -> None:
    store = grid_store(tmp_path, shapes=[(2, 3), (4, 2), (3, 3)])
    inside, options = GRIDS[format]
    take(give(store.path, format, tmp_path / "out") / inside, format, tmp_path / "back", **options)
    same(store, Store.open(tmp_path / "back"))


@pytest.mark.parametrize("format", REGIONS)
def test_regions_come_back_equal(format: str, tmp_path: Path) -> None:
    store = region_store(tmp_path)
    out = give(store.path, format, tmp_path / "out")
    take(out / REGIONS[format], format, tmp_path / "back")
    back = Store.open(tmp_path / "back", check=True)
    same(store, back)
    assert back.spec.cells == "boxes" and verify(back.path).ok


def test_a_type_that_is_asked_for_is_rounded_to(tmp_path: Path) -> None:
    store = grid_store(tmp_path, dtype="float32")
    take(give(store.path, "mmf-npy", tmp_path / "out"), "mmf-npy", tmp_path / "half", dtype="float16")
    half = Store.open(tmp_path / "half")
    assert half.manifest.dtype == "float16"
    assert torch.equal(half[IDS[0]].grid, store[IDS[0]].grid.half())


def test_files_look_as_their_readers_expect(tmp_path: Path) -> None:
    store = grid_store(tmp_path)
    npy = np.load(give(store.path, "mmf-npy", tmp_path / "a") / f"{IDS[0]}.npy", allow_pickle=False)
    assert npy.shape == (1, 2, 3, 8) and npy.dtype == np.float32
    pth = torch.load(give(store.path, "mmf-pth", tmp_path / "b") / f"{IDS[0]}.pth", weights_only=True)
    assert pth.shape == (1, 8, 2, 3) and pth.dtype == torch.float16
    caption = give(store.path, "clipvil-caption", tmp_path / "c")
    assert np.load(caption / "features_att" / f"{IDS[0]}.npz", allow_pickle=False)["feat"].shape == (2, 3, 8)
    assert np.load(caption / "features_fc" / f"{IDS[0]}.npy", allow_pickle=False).shape == (2,)
    theirs = np.load(give(store.path, "openai-clip-npz", tmp_path / "d") / f"{IDS[0]}.npz", allow_pickle=False)
    assert theirs["features"].shape == (6, 8) and theirs["g_feature"].shape == (1, 2)
    assert np.array_equal(theirs["features"], npy[0].reshape(6, 8))


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    store, regions = grid_store(tmp_path, shapes=[(2, 3), (4, 2)]), region_store(tmp_path)
    with pytest.raises(UsageError, match="not all square"):
        give(store.path, "openai-clip-npz", tmp_path / "a")
    with pytest.raises(UsageError, match="holds grids"):
        give(store.path, "bottom-up-tsv", tmp_path / "b")
    for number, format in enumerate(("mmf-npy", "mmf-pth", "clipvil-caption", "openai-clip-npz")):
        with pytest.raises(UsageError, match="holds regions"):
            give(regions.path, format, tmp_path / f"c{number}")
    assert not any((tmp_path / name).exists() for name in ("a", "b", "c0"))


def test_an_export_goes_on_and_never_mixes(tmp_path: Path) -> None:
    store = grid_store(tmp_path)
    out = give(store.path, "mmf-npy", tmp_path / "out")
    (out / f"{IDS[2]}.npy").unlink()
    untouched = (out / f"{IDS[0]}.npy").stat().st_mtime_ns
    give(store.path, "mmf-npy", out)
    assert (out / f"{IDS[2]}.npy").exists() and (out / f"{IDS[0]}.npy").stat().st_mtime_ns == untouched
    other = grid_store(tmp_path / "other", dtype="float32")
    with pytest.raises(StoreError, match="export of other features"):
        give(other.path, "mmf-npy", out)


@pytest.mark.parametrize("image_id", ["../outside", "/etc/passwd", "a//b", ".."])
def test_an_id_never_leads_out_of_the_folder(image_id: str, tmp_path: Path) -> None:
    from tests.features.build import write_store

    write_store(tmp_path / "store", ["fine", image_id])
    with pytest.raises(UsageError, match="cannot be a file name"):
        give(tmp_path / "store", "mmf-npy", tmp_path / "out")
    assert not (tmp_path / "outside.npy").exists()


def test_ids_with_folders_come_back(tmp_path: Path) -> None:
    from tests.features.build import write_store

    write_store(tmp_path / "store", ["kitchen/1.jpg", "kitchen/2.jpg", "hall/1.jpg"])
    take(give(tmp_path / "store", "mmf-npy", tmp_path / "out"), "mmf-npy", tmp_path / "back")
    same(Store.open(tmp_path / "store"), Store.open(tmp_path / "back"))
