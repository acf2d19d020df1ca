"""Views drawn from a cube map whose colours say where they look, against OpenGL's own rule for cube maps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clipvil.errors import ImageError
from clipvil.images import cubemap
from clipvil.simulator.views import VIEW_ELEVATION, VIEW_HEADING

# Table 8.19 of the OpenGL 4.6 specification: for the faces +x, -x, +y, -y, +z, -z what s, t and the longest part are.
# The simulator loads the skybox's faces 2, 4, 0, 5, 1, 3 as these, and looks up the direction opposite to where a point
# is seen.
GL = {
    2: lambda s, t: (1, -t, -s),
    4: lambda s, t: (-1, -t, s),
    0: lambda s, t: (s, 1, t),
    5: lambda s, t: (s, -1, -t),
    1: lambda s, t: (s, -t, 1),
    3: lambda s, t: (-s, -t, -1),
}
TURNED = np.array([[0.8, 0.0, 0.6], [0.6, 0.0, -0.8], [0.0, 1.0, 0.0]])


def coloured(rotation: np.ndarray, size: int = 256) -> np.ndarray:
    """Faces whose colour is the world's direction: 0 to 255 for -1 to 1 along x, y and z."""
    steps = (np.arange(size) + 0.5) / size * 2 - 1
    faces = np.empty((6, size, size, 3))
    for number, rule in GL.items():
        t, s = np.meshgrid(steps, steps, indexing="ij")
        looked_up = np.stack(np.broadcast_arrays(*rule(s, t)), -1)
        world = -looked_up @ rotation.T
        faces[number] = world / np.linalg.norm(world, axis=-1, keepdims=True)
    return np.rint((faces + 1) / 2 * 255).astype(np.uint8)


def seen(picture: np.ndarray) -> np.ndarray:
    return picture / 255 * 2 - 1


@pytest.mark.parametrize("rotation", [cubemap.LEVEL, TURNED], ids=["level", "turned"])
def test_every_pixel_of_all_views_shows_its_direction(rotation: np.ndarray) -> None:
    faces = coloured(rotation)
    for heading, elevation in zip(VIEW_HEADING, VIEW_ELEVATION, strict=True):
        picture = seen(cubemap.perspective(faces, float(heading), float(elevation), rotation, 64, 48))
        # By trigonometry: from a pixel's place on a plane one metre ahead to heading and elevation.
        half = math.tan(math.radians(30))
        for row, column in ((0, 0), (0, 63), (47, 0), (47, 63), (23, 31), (10, 50)):
            right, up = ((column + 0.5) / 32 - 1) * half * 4 / 3, (1 - (row + 0.5) / 24) * half
            level, high = math.cos(elevation) - up * math.sin(elevation), math.sin(elevation) + up * math.cos(elevation)
            turn = heading + math.atan2(right, level)
            flat = math.hypot(right, level)
            expected = np.array([flat * math.sin(turn), flat * math.cos(turn), high])
            expected /= np.linalg.norm(expected)
            assert picture[row, column] == pytest.approx(expected, abs=0.012), (heading, elevation, row, column)


def test_the_field_of_view_is_that_of_the_simulator() -> None:
    rays = cubemap.directions(0.0, 0.0)
    assert rays.shape == (480, 640, 3)
    # From pixel centre to pixel centre, half a pixel short on either side.
    left, right, top = rays[240, 0], rays[240, -1], rays[0, 320]
    wide = math.degrees(math.atan2(right[0], right[1]) - math.atan2(left[0], left[1]))
    high = math.degrees(math.atan2(top[2], top[1]))
    assert wide == pytest.approx(75.18, abs=0.15) and high == pytest.approx(30.0, abs=0.1)


def test_faces_meet_without_a_seam() -> None:
    """Looking into the corner where three faces meet, neighbours differ by no more than elsewhere."""
    corner = cubemap.perspective(
        coloured(cubemap.LEVEL), math.pi / 4, math.atan(1 / math.sqrt(2)), width=200, height=200
    )
    steps = np.abs(np.diff(corner.astype(int), axis=0)).max(), np.abs(np.diff(corner.astype(int), axis=1)).max()
    assert max(steps) <= 4


def test_faces_of_other_shapes_are_refused() -> None:
    with pytest.raises(ImageError, match="six square faces"):
        cubemap.perspective(np.zeros((6, 4, 5, 3), np.uint8), 0.0, 0.0)
