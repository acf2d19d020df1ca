"""The 36 views of a panorama: their angles, how real angles snap to them, and the angle features of the agents.

Heading 0 looks along +y and grows to the right (towards +x), elevation grows upwards; both in radians. View
`12 * row + column` looks at heading 30 degrees times `column`; row 0 looks 30 degrees down, row 1 level, row 2 up.
Source: MatterSim.cpp of the Matterport3D simulator @ 589d091; the angle features are EnvDrop's (arXiv 1904.04195).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
VIEWS, COLUMNS, ROWS = 36, 12, 3
STEP = math.pi / 6
HALF_FIELD = math.radians(40.0)
"""Half the horizontal field in which a neighbour counts as seen: 60 degrees of vertical field times 640/480, halved. It
is linear in the aspect, as published; the rendered picture really shows 75.18 degrees and not 80."""

VIEW_HEADING: Floats = np.asarray(np.arange(VIEWS) % COLUMNS * STEP, np.float64)
VIEW_ELEVATION: Floats = np.asarray((np.arange(VIEWS) // COLUMNS - 1) * STEP, np.float64)


def snap(heading: npt.ArrayLike, elevation: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The view index of any real angles (radians, any shape).

    Headings go to the nearest multiple of 30 degrees, halves away from zero; elevations beyond 15 degrees go to the
    upper or lower row. Raises ValueError for an angle that is not finite.
    """
    turned, raised = np.asarray(heading, np.float64), np.asarray(elevation, np.float64)
    if not (np.isfinite(turned).all() and np.isfinite(raised).all()):
        raise ValueError("heading and elevation must be finite numbers (radians)")
    # fmod and one addition, as the original wraps; np.mod differs in the last bit.
    turned = np.fmod(turned, 2 * math.pi)
    turned = np.where(turned < 0, turned + 2 * math.pi, turned)
    column = np.floor(turned / STEP + 0.5).astype(np.int64) % COLUMNS
    row = 1 + (raised > math.pi / 12).astype(np.int64) - (raised < -math.pi / 12)
    return COLUMNS * row + column


def _turns() -> npt.NDArray[np.int64]:
    """(36, 3, 3): the view after a turn, by view, sign of the heading change + 1, sign of the elevation change + 1."""
    view = np.arange(VIEWS)[:, None, None]
    right, up = np.arange(-1, 2)[None, :, None], np.arange(-1, 2)[None, None, :]
    row = np.clip(view // COLUMNS + up, 0, ROWS - 1)
    return COLUMNS * row + (view % COLUMNS + right) % COLUMNS


TURN: npt.NDArray[np.int64] = _turns()


def angle_features(heading: npt.ArrayLike, elevation: npt.ArrayLike, size: int) -> npt.NDArray[np.float32]:
    """(..., size) float32: [sin h, cos h, sin e, cos e] again and again.

    Raises ValueError where `size` is no multiple of 4.
    """
    if size <= 0 or size % 4:
        raise ValueError(f"the size of angle features must be a multiple of 4, not {size}")
    turned, raised = np.broadcast_arrays(np.asarray(heading, np.float64), np.asarray(elevation, np.float64))
    four = np.stack([np.sin(turned), np.cos(turned), np.sin(raised), np.cos(raised)], -1).astype(np.float32)
    return np.tile(four, (1,) * turned.ndim + (size // 4,))


def view_angle_table(size: int) -> npt.NDArray[np.float32]:
    """(36, 36, size) float32: the angle features of each view (second axis) seen by an agent at a view (first axis).

    Headings are relative to the agent's column, elevations absolute.
    """
    relative = VIEW_HEADING[None, :] - VIEW_HEADING[:, None]
    return angle_features(relative, VIEW_ELEVATION[None, :], size)


def turns_to(view: int, target: int) -> list[tuple[int, int]]:
    """The camera steps (heading sign, elevation sign) from a view to another, as the published agents take them.

    First up or down, then to the right only, however far that is.
    """
    rows = target // COLUMNS - view // COLUMNS
    vertical: list[tuple[int, int]] = [(0, 1 if rows > 0 else -1)] * abs(rows)
    return vertical + [(1, 0)] * ((target - view) % COLUMNS)
