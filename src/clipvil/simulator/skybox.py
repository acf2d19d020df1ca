"""The 36 views of a panorama, drawn from the six faces of a cube map (a skybox).

Seen from inside the cube, every face is a square picture with a field of 90 degrees. `front` lies ahead, `right` to its
right and so on round; the lower edge of `up` and the upper edge of `down` adjoin `front`. Matterport3D numbers them 0
(up), 1 (front), 2 (right), 3 (back), 4 (left) and 5 (down), and its poses turn the cube (x right, y down, z ahead) into
the world (z up).

A view looks at the angles of `clipvil.simulator.views` in true perspective: 60 degrees of vertical field at 640 x 480
show 75.2 degrees across. Source of the faces and the field: Matterport3DSimulator @ 589d091. No skybox of Matterport3D
(they are given out on request only) was at hand: the pictures were never compared with those of the original renderer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from clipvil.simulator.views import VIEW_ELEVATION, VIEW_HEADING, VIEWS

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
FACES = ("up", "front", "right", "back", "left", "down")
"""In the order of Matterport3D's numbers."""
SIZE, FIELD = (640, 480), math.radians(60)
"""Width and height of a view, and its vertical field, as all published features of navigation were made."""

# Of each face: where it lies, what is to its right, and what is above it; x right, y ahead, z up.
_AXES: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "up": ((0, 0, 1), (1, 0, 0), (0, -1, 0)),
    "front": ((0, 1, 0), (1, 0, 0), (0, 0, 1)),
    "right": ((1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "back": ((0, -1, 0), (-1, 0, 0), (0, 0, 1)),
    "left": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "down": ((0, 0, -1), (1, 0, 0), (0, 1, 0)),
}
# From a camera (x right, y down, z ahead) to the axes above.
_FROM_CAMERA: Floats = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)


def rays(view: int, size: tuple[int, int] = SIZE, field: float = FIELD) -> Floats:
    """(height, width, 3) float64: where in the world each pixel of a view looks, ahead by 1; `field` in radians."""
    width, height = size
    half = math.tan(field / 2)
    across = ((np.arange(width) + 0.5) * 2 / width - 1) * half * width / height
    above = (1 - (np.arange(height) + 0.5) * 2 / height) * half
    heading, elevation = float(VIEW_HEADING[view]), float(VIEW_ELEVATION[view])
    ahead = np.array(
        [math.sin(heading) * math.cos(elevation), math.cos(heading) * math.cos(elevation), math.sin(elevation)]
    )
    right = np.array([math.cos(heading), -math.sin(heading), 0.0])
    found: Floats = ahead + across[None, :, None] * right + above[:, None, None] * np.cross(right, ahead)
    return found


def look(faces: Mapping[str, Bytes], directions: Floats, rotation: Floats | None = None) -> Bytes:
    """What a cube shows in each direction (..., 3), as (..., 3) uint8; between pixels bilinear.

    `faces` has the six of `FACES`, square (S, S, 3) uint8 of one size. `rotation` (3, 3) is that of the cube's pose in
    Matterport3D's sense; without it `front` looks along heading 0.
    """
    inside = directions if rotation is None else directions @ rotation @ _FROM_CAMERA.T
    axes = np.array([_AXES[name] for name in FACES], np.float64)
    ahead = inside @ axes[:, 0].T
    which = ahead.argmax(axis=-1)
    cube = np.stack([faces[name] for name in FACES])
    side = cube.shape[1]
    depth = np.take_along_axis(ahead, which[..., None], axis=-1)[..., 0]
    column = ((inside * axes[which, 1]).sum(axis=-1) / depth + 1) * side / 2 - 0.5
    row = (1 - (inside * axes[which, 2]).sum(axis=-1) / depth) * side / 2 - 0.5
    return _between(cube, which, row, column)


def _between(cube: Bytes, which: npt.NDArray[np.int64], row: Floats, column: Floats) -> Bytes:
    last = cube.shape[1] - 1
    row, column = np.clip(row, 0, last), np.clip(column, 0, last)
    top, left = (
        np.minimum(row.astype(np.int64), max(last - 1, 0)),
        np.minimum(column.astype(np.int64), max(last - 1, 0)),
    )
    low, far = np.minimum(top + 1, last), np.minimum(left + 1, last)
    down, across = (row - top)[..., None], (column - left)[..., None]
    upper = cube[which, top, left] * (1 - across) + cube[which, top, far] * across
    lower = cube[which, low, left] * (1 - across) + cube[which, low, far] * across
    found: Bytes = np.rint(upper * (1 - down) + lower * down).astype(np.uint8)
    return found


def views(
    faces: Mapping[str, Bytes],
    rotation: Floats | None = None,
    *,
    size: tuple[int, int] = SIZE,
    field: float = FIELD,
) -> Iterator[Bytes]:
    """The 36 views of a cube, each (height, width, 3) uint8, in the order of the simulator."""
    for view in range(VIEWS):
        yield look(faces, rays(view, size, field), rotation)
