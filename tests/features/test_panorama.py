from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from clipvil.cli.main import main
from clipvil.errors import StoreError
from clipvil.features.panorama import PanoramaFeatures
from clipvil.features.store import Store
from clipvil.simulator.simulator import Simulator
from clipvil.simulator.views import VIEW_HEADING, angle_features
from clipvil.simulator.world import World
from tests.simulator.build import SQUARE, square

INSIDE = [name for name in SQUARE if name != "off"]


def _values(size: int = 4) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal((36, size)).astype(np.float32) for name in INSIDE}


def _tsv(path: Path, values: dict[str, np.ndarray]) -> Path:
    lines = [
        f"house\t{name}\t640\t480\t60\t{base64.b64encode(value.tobytes()).decode()}\n" for name, value in values.items()
    ]
    path.write_text("".join(lines))
    return path


def _imported(folder: Path, source: Path, format: str, *more: str) -> Store:
    out = folder / f"store-{format}"
    arguments = ["features", "import", str(source), "--format", format, "--encoder-name", "released/x", *more]
    assert main([*arguments, "--out", str(out)]) == 0
    return Store.open(out)


def test_released_tsv_files_become_panoramas(tmp_path: Path) -> None:
    values = _values()
    world = World(square(tmp_path / "graphs"))
    features = PanoramaFeatures.from_store(
        _imported(tmp_path, _tsv(tmp_path / "a.tsv", values), "vln-tsv"), world, angle_size=8
    )
    assert features.values.shape == (6, 36, 4)
    for name in INSIDE:
        assert np.array_equal(features.values[world.find("house", name)], values[name])
    assert not features.values[world.graphs[0].index["off"]].any()


def test_hamt_files_lose_their_logits(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    values = _values(4 + 10)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in values.items():
            file.create_dataset(f"house_{name}", data=value)
    store = _imported(tmp_path, tmp_path / "a.h5", "vln-hdf5", "--channels", "4")
    world = World(square(tmp_path / "graphs"))
    features = PanoramaFeatures.from_store(store, world)
    assert np.array_equal(features.values[world.find("house", "far")], values["far"][:, :4])


def test_lines_that_are_no_panorama_fail_alone(tmp_path: Path) -> None:
    values = _values()
    path = _tsv(tmp_path / "a.tsv", {**values, "bad": values["sw"][:35]})
    path.write_text(path.read_text() + "house\tcut\t640\n")
    store = tmp_path / "store"
    arguments = ["features", "import", str(path), "--format", "vln-tsv", "--encoder-name", "x", "--out", str(store)]
    main(arguments)
    failures = {failure.id: failure.reason for failure in Store.open(store).failures()}
    assert failures == {"house_bad": "misshapen", "house_cut": "truncated"}


def test_views_and_candidates_of_a_batch(tmp_path: Path) -> None:
    world = World(square(tmp_path))
    values = np.random.default_rng(1).standard_normal((len(world), 36, 5)).astype(np.float32)
    features = PanoramaFeatures(values, angle_size=4)
    simulator = Simulator(world)
    simulator.start_at(["house"] * 2, ["sw", "far"], [np.pi / 2, 0])
    seen = simulator.candidates()
    around, wide = features.views(simulator.viewpoint, simulator.view), features.candidates(simulator.viewpoint, seen)
    assert around.shape == (2, 36, 9) and wide.shape == (2, seen.viewpoint.shape[1] + 1, 9)
    assert np.array_equal(around[0, 7, :5], values[simulator.viewpoint[0], 7])
    assert np.allclose(around[0, 15, 5:], [0, 1, 0, 1]) and np.allclose(around[1, 15, 5:], [1, 0, 0, 1], atol=1e-6)
    for agent in range(2):
        for slot in range(int(seen.count[agent])):
            expected = values[simulator.viewpoint[agent], seen.view[agent, slot]]
            assert np.array_equal(wide[agent, slot, :5], expected)
            angles = angle_features(seen.heading[agent, slot], seen.elevation[agent, slot], 4)
            assert np.allclose(wide[agent, slot, 5:], angles)
        assert not wide[agent, int(seen.count[agent]) :].any()
    assert VIEW_HEADING[simulator.view[0]] == pytest.approx(np.pi / 2)


def test_a_store_that_lacks_a_viewpoint_is_named(tmp_path: Path) -> None:
    world = World(square(tmp_path / "graphs"))
    some = {name: value for name, value in _values().items() if name != "far"}
    store = _imported(tmp_path, _tsv(tmp_path / "a.tsv", some), "vln-tsv")
    with pytest.raises(StoreError, match="house_far"):
        PanoramaFeatures.from_store(store, world)
    other = _imported(tmp_path / "b", _tsv(tmp_path / "b.tsv", {"nowhere": _values()["sw"]}), "vln-tsv")
    with pytest.raises(StoreError, match="no features of the viewpoint 'house_sw', neither whole nor view by view"):
        PanoramaFeatures.from_store(other, world)


def test_memory_can_be_used_again_and_half_precision_kept(tmp_path: Path) -> None:
    world = World(square(tmp_path))
    values = np.random.default_rng(1).standard_normal((len(world), 36, 5)).astype(np.float32)
    whole, half = PanoramaFeatures(values, angle_size=4), PanoramaFeatures(values.astype(np.float16), angle_size=4)
    where, view = np.array([3, 0, 4]), np.array([1, 20, 35])
    expected, buffer = whole.views(where, view), np.full((3, 36, 9), np.nan, np.float32)
    assert whole.views(where, view, out=buffer) is buffer and np.array_equal(buffer, expected)
    assert half.values.dtype == np.float16 and np.allclose(half.views(where, view), expected, atol=2e-3)


def test_views_extracted_one_by_one_are_put_together(tmp_path: Path) -> None:
    from PIL import Image

    from clipvil.datasets.base import Dataset
    from clipvil.features.extract import extract

    world, pictures = World(square(tmp_path / "graphs")), {}
    generator = np.random.default_rng(2)
    for name in INSIDE:
        for view in range(36):
            path = tmp_path / f"{name}_{view:02d}.png"
            Image.fromarray(generator.integers(0, 255, (32, 32, 3), np.uint8)).save(path)
            pictures[f"house_{name}_{view:02d}"] = path
    dataset = Dataset("made", "train", [], pictures)
    extract(dataset.images, encoder="mini/contrastive", out=tmp_path / "store", precision="fp32", progress=False)
    store = Store.open(tmp_path / "store")
    features = PanoramaFeatures.from_store(store, world)
    for name, view in (("sw", 0), ("far", 35), ("ne", 17)):
        (expected,) = store.pooled([f"house_{name}_{view:02d}"])
        assert np.allclose(features.values[world.find("house", name), view], expected.numpy())


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_folder_of_drawn_views_is_extracted_and_read(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    from clipvil.cli.main import main

    world, folder = World(square(tmp_path / "graphs")), tmp_path / "views"
    folder.mkdir()
    generator = np.random.default_rng(3)
    for name in INSIDE:
        for view in range(36):
            picture = Image.fromarray(generator.integers(0, 255, (8, 8, 3), np.uint8))
            picture.save(folder / f"house_{name}_{view:02d}.{suffix}")
    out = tmp_path / "store"
    assert (
        main(["extract", str(folder), "--out", str(out), "--encoder", "mini/contrastive", "--precision", "fp32"]) == 0
    )
    store = Store.open(out)
    features = PanoramaFeatures.from_store(store, world)
    expected = store.pooled([f"house_ne_17.{suffix}"])
    assert expected is not None
    assert np.allclose(features.values[world.find("house", "ne"), 17], expected[0].numpy())
