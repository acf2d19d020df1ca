"""Panoramas as sources of pictures: folders of views, skyboxes, and what extraction makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipvil.cli.main import main
from clipvil.datasets.connectivity import Graphs
from clipvil.errors import DataError, ImageError, UsageError
from clipvil.features.extract import extract
from clipvil.features.panorama import PanoramaFeatures
from clipvil.features.store import Store
from clipvil.features.views import _faces, open_panoramas
from clipvil.images.decode import decode
from clipvil.simulator.views import VIEW_ELEVATION, VIEW_HEADING, VIEWS
from clipvil.simulator.world import World
from tests.images.test_cubemap import TURNED, coloured, seen
from tests.simulator.build import rows, write


def views(folder: Path, pattern: str, viewpoints: tuple[str, ...] = ("a", "b")) -> Path:
    """Small plain pictures; view v of a viewpoint is v in red, blue is 200."""
    for viewpoint in viewpoints:
        for view in range(VIEWS):
            place = folder / pattern.format(viewpoint=viewpoint, view=view)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (view, 0, 200)).save(place)
    return folder


def skyboxes(folder: Path, rotation: np.ndarray, names: tuple[str, ...] = ("a", "b")) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        for number, face in enumerate(coloured(rotation, 128)):
            Image.fromarray(face).save(folder / f"{name}_skybox{number}_sami.png")
    return folder


def graphs(folder: Path, rotation: np.ndarray | None = None) -> Path:
    """Scan s: viewpoints a and b joined, c not included."""
    content = rows({"a": (0, 0, 0), "b": (3, 0, 0), "c": (6, 0, 0)}, [("a", "b")], excluded=("c",))
    for row in content:
        if rotation is not None:
            pose = np.eye(4)
            pose[:3, :3] = rotation
            pose[0, 3] = row["pose"][3]
            row["pose"] = pose.ravel().tolist()
    return write(folder, "s", content).parent


@pytest.mark.parametrize("pattern", ["s/{viewpoint}_{view:02d}.png", "s/{viewpoint}/{view:02d}.png",
                                     "s_{viewpoint}_{view:02d}.png"])  # fmt: skip
def test_views_are_numbered_as_the_simulator_does(pattern: str, tmp_path: Path) -> None:
    source = open_panoramas(views(tmp_path, pattern), "views")
    assert source.ids() == [f"s_{viewpoint}_{view:02d}" for viewpoint in "ab" for view in range(VIEWS)]
    assert decode(source.find("s_b_17").read(), where="x").getpixel((0, 0)) == (17, 0, 200)


def test_views_that_are_missing_or_too_many_are_named(tmp_path: Path) -> None:
    folder = views(tmp_path / "views", "s/{viewpoint}_{view:02d}.png")
    (folder / "s" / "b_07.png").rename(folder / "s" / "b_36.png")
    with pytest.raises(DataError, match=r"viewpoint 'b' of scan 's' lacks view 07"):
        open_panoramas(folder, "views")
    (folder / "s" / "a_00.png").rename(folder / "s" / "b_07.png")
    with pytest.raises(DataError, match=r"viewpoint 'a' of scan 's' lacks view 00"):
        open_panoramas(folder, "views")
    with pytest.raises(DataError, match="holds no views of viewpoints"):
        open_panoramas(folder / "s", "views")
    with pytest.raises(DataError, match="holds no skyboxes"):
        open_panoramas(folder, "skybox")


def test_graphs_say_which_viewpoints_count(tmp_path: Path) -> None:
    folder = views(tmp_path / "views", "s/{viewpoint}_{view:02d}.png", ("a", "b", "c"))
    assert len(open_panoramas(folder, "views", graphs(tmp_path / "graphs"))) == 2 * VIEWS
    views(folder, "t/{viewpoint}_{view:02d}.png")
    with pytest.raises(DataError, match="no graph of the scan 't'"):
        open_panoramas(folder, "views", tmp_path / "graphs")


def test_skyboxes_are_turned_by_their_pose(tmp_path: Path) -> None:
    skyboxes(tmp_path / "boxes" / "s" / "matterport_skybox_images", TURNED, ("a", "b", "c"))
    source = open_panoramas(tmp_path / "boxes", "skybox", graphs(tmp_path / "graphs", TURNED))
    assert source.ids() == [f"s_{viewpoint}_{view:02d}" for viewpoint in "ab" for view in range(VIEWS)]
    for view in (0, 4, 17, 35):
        picture = decode(source.find(f"s_a_{view:02d}").read(), where="x")
        assert picture.size == (640, 480)
        heading, elevation = VIEW_HEADING[view], VIEW_ELEVATION[view]
        flat = np.cos(elevation)
        ahead = [flat * np.sin(heading), flat * np.cos(heading), np.sin(elevation)]
        assert seen(np.asarray(picture)[240, 320]) == pytest.approx(ahead, abs=0.02)


def test_six_faces_side_by_side_are_the_same_skybox(tmp_path: Path) -> None:
    apart = skyboxes(tmp_path / "apart" / "s", TURNED, ("a",))
    strip = np.concatenate([np.asarray(Image.open(apart / f"a_skybox{n}_sami.png")) for n in range(6)], axis=1)
    (tmp_path / "strip" / "s").mkdir(parents=True)
    Image.fromarray(strip).save(tmp_path / "strip" / "s" / "a_skybox_small.png")
    one, other = (open_panoramas(tmp_path / kind, "skybox").find("s_a_20").read() for kind in ("apart", "strip"))
    assert one == other
    Image.fromarray(strip[:, :-1]).save(tmp_path / "strip" / "s" / "a_skybox_small.png")
    cut = open_panoramas(tmp_path / "strip", "skybox")
    _faces.cache_clear()
    with pytest.raises(ImageError, match="767x128 pixels are no six faces"):
        cut[0].read()


def test_a_face_that_is_missing_and_a_pose_that_does_not_turn_are_named(tmp_path: Path) -> None:
    folder = skyboxes(tmp_path / "boxes" / "s", TURNED, ("a",)).parent
    places = graphs(tmp_path / "graphs", 2 * TURNED)
    with pytest.raises(DataError, match=r"s_connectivity\.json.*row 1.*must be a rotation"):
        open_panoramas(folder, "skybox", places)
    (folder / "s" / "a_skybox4_sami.png").unlink()
    with pytest.raises(DataError, match="skybox 'a' of scan 's' lacks face 4"):
        open_panoramas(folder, "skybox")


def test_extraction_of_skyboxes_is_what_an_agent_reads(tmp_path: Path) -> None:
    skyboxes(tmp_path / "boxes" / "s", TURNED)
    places = graphs(tmp_path / "graphs", TURNED)
    command = ["extract", str(tmp_path / "boxes"), "--kind", "skybox", "--graphs", str(places), "--encoder"]
    common = ["mini/random", "--dtype", "float32", "--precision", "fp32", "--resize", "square:32"]
    assert main([*command, *common, "--out", str(tmp_path / "rgb")]) == 0
    assert main([*command, *common, "--out", str(tmp_path / "bgr"), "--bgr"]) == 0
    world = World(Graphs(places))
    found = {
        name: PanoramaFeatures.from_store(Store(tmp_path / name), world, angle_size=4).values for name in ("rgb", "bgr")
    }
    assert found["rgb"].shape[:2] == (3, VIEWS)
    assert np.abs(found["rgb"][:2]).min(axis=(1, 2)).shape == (2,) and not np.any(found["rgb"][2])
    assert np.abs(found["rgb"][0] - found["bgr"][0]).max() > 1e-3
    manifest = json.loads((tmp_path / "bgr" / "manifest.json").read_text())
    assert manifest["resize"] == "bgr:square:32"
    # The two are never mixed in one store.
    assert main([*command, *common, "--out", str(tmp_path / "rgb"), "--bgr"]) == 1


def test_graphs_belong_to_panoramas(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="graphs belong to panoramas"):
        extract(tmp_path, encoder="mini/random", out=tmp_path / "out", graphs=tmp_path)
