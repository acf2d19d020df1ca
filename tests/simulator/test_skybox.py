"""Views of cubes whose colour says where one looks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipvil.cli.main import main
from clipvil.simulator.skybox import _AXES, FACES, look, rays, views
from clipvil.simulator.skybox_files import draw_views
from clipvil.simulator.views import VIEW_ELEVATION, VIEW_HEADING, VIEWS

LEVEL = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)
"""The pose of a cube that stands level and faces heading 0: its x is the world's, its y down, its z ahead."""


def telling_cube(side: int = 128) -> dict[str, np.ndarray]:
    """Every pixel has the direction in which it lies as its colour: (unit vector + 1) * 127.5."""
    steps = (np.arange(side) + 0.5) * 2 / side - 1
    cube = {}
    for name in FACES:
        ahead, right, above = (np.array(axis, np.float64) for axis in _AXES[name])
        lies = ahead + steps[None, :, None] * right - steps[:, None, None] * above
        lies /= np.linalg.norm(lies, axis=-1, keepdims=True)
        cube[name] = np.rint((lies + 1) * 127.5).astype(np.uint8)
    return cube


def told(picture: np.ndarray) -> np.ndarray:
    found = picture.astype(np.float64) / 127.5 - 1
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def test_every_pixel_of_every_view_shows_what_lies_there() -> None:
    cube = telling_cube()
    for view, picture in enumerate(views(cube, size=(80, 60))):
        directions = rays(view, (80, 60))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        assert np.abs(told(picture) - directions).max() < 0.03, view


def test_the_middle_of_a_view_lies_at_its_angles_and_right_is_clockwise() -> None:
    for view in range(VIEWS):
        middle = rays(view, (3, 3))[1, 1]
        assert math.atan2(middle[0], middle[1]) % (2 * math.pi) == pytest.approx(VIEW_HEADING[view], abs=1e-9)
        assert math.asin(middle[2]) == pytest.approx(VIEW_ELEVATION[view], abs=1e-9)
    row = rays(12, (641, 480))[240]
    headings = np.degrees(np.arctan2(row[:, 0], row[:, 1]))
    assert (np.diff(headings) > 0).all()
    edge = math.degrees(math.atan(math.tan(math.radians(30)) * 640 / 480))
    assert 2 * edge == pytest.approx(75.18, abs=0.01)
    assert math.degrees(math.atan2(*rays(12)[240, -1, :2])) == pytest.approx(edge, abs=0.1)


def test_faces_adjoin_where_the_module_says() -> None:
    cube = telling_cube()
    for name, edge, other in (("up", -1, 0), ("down", 0, -1)):
        assert np.abs(told(cube[name])[edge] - told(cube["front"])[other]).max() < 0.03
    for here, there in (("front", "right"), ("right", "back"), ("back", "left"), ("left", "front")):
        assert np.abs(told(cube[here])[:, -1] - told(cube[there])[:, 0]).max() < 0.03


def test_a_pose_turns_the_cube() -> None:
    cube, directions = telling_cube(), rays(14, (40, 30))
    assert np.array_equal(look(cube, directions, LEVEL), look(cube, directions))
    # The cube's front lies at 90 degrees: what heading 90 shows is what heading 0 shows of a level one.
    quarter = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float64)
    turned = look(cube, rays(12 + 3, (40, 30)), quarter @ LEVEL)
    assert np.abs(turned.astype(int) - look(cube, rays(12, (40, 30))).astype(int)).max() <= 1


def write_cube(folder: Path, names: str, side: int = 16) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, face in enumerate(FACES):
        Image.fromarray(telling_cube(side)[face]).save(folder / names.format(number=number, face=face))


def test_own_cubes_and_numbered_ones_become_pictures_that_extraction_names(tmp_path: Path) -> None:
    root = tmp_path / "cubes"
    write_cube(root / "house", "kitchen_{face}.png")
    write_cube(root / "scan" / "matterport_skybox_images", "ab12_skybox{number}_sami.png")
    drawn = draw_views(root, tmp_path / "out", size=(16, 12), quiet=True)
    assert (drawn.viewpoints, drawn.skipped, drawn.failures) == (2, 0, {})
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{place}_{view:02d}.png" for place in ("house_kitchen", "scan_ab12") for view in range(36)}
    one, other = (tmp_path / "out" / f"{place}_14.png" for place in ("house_kitchen", "scan_ab12"))
    assert one.read_bytes() == other.read_bytes()
    again = draw_views(root, tmp_path / "out", size=(16, 12), quiet=True)
    assert (again.viewpoints, again.skipped) == (0, 2)


def test_poses_of_the_graph_turn_cubes(tmp_path: Path) -> None:
    write_cube(tmp_path / "cubes" / "scan", "ab12_skybox{number}_sami.png")
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) @ LEVEL
    graphs = tmp_path / "graphs"
    graphs.mkdir()
    place = {"image_id": "ab12", "pose": pose.ravel().tolist(), "included": True, "visible": [False]}
    (graphs / "scan_connectivity.json").write_text(json.dumps([{**place, "unobstructed": [False], "height": 1.5}]))
    draw_views(tmp_path / "cubes", tmp_path / "level", size=(16, 12), quiet=True)
    draw_views(tmp_path / "cubes", tmp_path / "turned", graphs=graphs, size=(16, 12), quiet=True)
    shown = [
        np.asarray(Image.open(tmp_path / f)).astype(int) for f in ("level/scan_ab12_12.png", "turned/scan_ab12_15.png")
    ]
    assert np.abs(shown[0] - shown[1]).max() <= 1


def test_what_is_wrong_is_one_line_and_the_rest_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "cubes"
    for name in ("good", "lacking", "cut", "odd"):
        write_cube(root / "house", name + "_{face}.png")
    (root / "house" / "lacking_down.png").unlink()
    cut = root / "house" / "cut_left.png"
    cut.write_bytes(cut.read_bytes()[:60])
    Image.new("RGB", (16, 8)).save(root / "house" / "odd_back.png")
    command = ["navigation", "views", str(root), "--out", str(tmp_path / "out"), "--size", "8x6"]
    assert main(command) == 3
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("house_")]
    assert len(lines) == 3
    assert "the face 'down' is missing" in said.err and "cut_left.png" in said.err and "16 x 8 pixels" in said.err
    assert "1 viewpoints drawn" in said.out and "3 failed" in said.out
    assert len(list((tmp_path / "out").iterdir())) == 36
    for more in (["--size", "8"], ["--graphs", str(tmp_path)]):
        assert main([*command, *more]) != 0
        assert capsys.readouterr().err.strip().count("\n") == 0
    (tmp_path / "none").mkdir()
    assert main(["navigation", "views", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) != 0
    assert "holds no skyboxes" in capsys.readouterr().err
