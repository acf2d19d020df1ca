"""Six faces of a skybox to perspective pictures, as the Matterport3D simulator draws them, without OpenGL.

World: z up; heading 0 looks along +y and grows to the right, elevation grows upwards; radians. A skybox has axes of its
own, those of a camera that faces face 3: x to its right, y down, z ahead. Each face is a square of 90 degrees:

| face | looks along | its right is | its lower edge is towards |
|---|---|---|---|
| 0 | -y (up) | -x | -z |
| 1 | -z (behind) | -x | +y |
| 2 | -x (left) | +z | +y |
| 3 | +z (ahead) | +x | +y |
| 4 | +x (right) | -z | +y |
| 5 | +y (down) | -x | +z |

Worked out from the matrices, the order of the faces and OpenGL's cube map rule (version 4.6, section 8.13), by which
Matterport3DSimulator @ 589d091 draws: a point is drawn on the side opposite to it, upside down and turned, and reading
the buffer from below turns it back. Colours are blended between the four nearest pixels of one face.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from clipvil.errors import ImageError

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 640, 480
FIELD = math.radians(60.0)
"""The vertical field of view. The horizontal one is then 2 atan(4/3 tan 30 degrees) = 75.18 degrees."""
_RIGHT = np.array([2, 2, 3, 4, 1, 2])
_DOWN = np.array([1, 5, 5, 5, 5, 3])
"""Which part of a direction grows to the right of each face and downwards: 0 -y, 1 -z, 2 -x, 3 +z, 4 +x, 5 +y."""
LEVEL = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
"""Skybox to world where nobody gives a pose: face 3 looks along heading 0, upright."""


def directions(
    heading: float, elevation: float, width: int = WIDTH, height: int = HEIGHT, field: float = FIELD
) -> Floats:
    """(height, width, 3): where in the world each pixel of a camera looks, not of unit length.

    `field` is the vertical field of view.
    """
    edge = math.tan(field / 2)
    across = ((np.arange(width) + 0.5) / width * 2 - 1) * edge * width / height
    up = (1 - (np.arange(height) + 0.5) / height * 2) * edge
    sin_h, cos_h, sin_e, cos_e = math.sin(heading), math.cos(heading), math.sin(elevation), math.cos(elevation)
    ahead = np.array([sin_h * cos_e, cos_h * cos_e, sin_e])
    to_right = np.array([cos_h, -sin_h, 0.0])
    upwards = np.array([-sin_h * sin_e, -cos_h * sin_e, cos_e])
    rays = ahead + across[None, :, None] * to_right + up[:, None, None] * upwards
    return np.asarray(rays, np.float32)


def look_up(faces: Bytes, rays: Floats) -> Bytes:
    """The colours (..., 3) that six faces (6, n, n, 3) show in directions (..., 3) of the skybox's own axes."""
    size, shape = faces.shape[1], rays.shape[:-1]
    x, y, z = np.moveaxis(rays.reshape(-1, 3), 1, 0)
    # The face of a direction is that of its longest part.
    parts = np.stack([-y, -z, -x, z, x, y])
    face = parts.argmax(0)
    depth = parts.max(0)
    # Every face's right and lower side is one of the same six parts.
    column = (_pick(parts, _RIGHT, face) / depth + 1) * (size / 2) - 0.5
    row = (_pick(parts, _DOWN, face) / depth + 1) * (size / 2) - 0.5
    left, top = np.floor(column), np.floor(row)
    beside, below = (column - left)[:, None], (row - top)[:, None]
    first, last = left.astype(np.int64), top.astype(np.int64)
    columns = np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1)
    rows = tuple((face * size + np.clip(line, 0, size - 1)) * size for line in (last, last + 1))
    flat = faces.reshape(-1, 3)
    upper, lower = (flat[start + columns[0]] * (1 - beside) + flat[start + columns[1]] * beside for start in rows)
    mixed = np.rint(upper + (lower - upper) * below)
    return np.asarray(mixed, np.uint8).reshape(*shape, 3)


def _pick(parts: Floats, which: npt.NDArray[np.int64], face: npt.NDArray[np.int64]) -> Floats:
    """Of each direction the part that its face asks for."""
    count = parts.shape[1]
    return parts.reshape(-1).take(which[face] * count + np.arange(count))


def perspective(
    faces: Bytes,
    heading: float,
    elevation: float,
    rotation: npt.ArrayLike = LEVEL,
    width: int = WIDTH,
    height: int = HEIGHT,
    field: float = FIELD,
) -> Bytes:
    """What a camera sees of a skybox: (height, width, 3) uint8. `rotation` (3, 3) leads from skybox to world.

    Raises ImageError for faces that are no six squares of one size.
    """
    if faces.ndim != 4 or faces.shape[0] != 6 or faces.shape[3] != 3 or faces.shape[1] != faces.shape[2]:
        raise ImageError("corrupt", f"a skybox has six square faces of one size, not {tuple(faces.shape)}")
    # The inverse of a rotation is its transpose, so from the right the rotation itself leads back.
    rays = directions(heading, elevation, width, height, field) @ np.asarray(rotation, np.float32)
    return look_up(faces, rays)
