"""Pictures: the same pixels from the same scene, and each word of the world visible in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clipvil.mini.drawing import PAINT, SHAPE_MASKS, draw, shifted_color
from clipvil.mini.world import BACKGROUNDS, COLORS, SHAPES, Object, Scene, scene

ONE = Object("square", "red", "solid", "large", 64.0, 64.0, 20.0, 0.0, (0, 0, 0))


def pixels(each: Scene, size: int = 128) -> np.ndarray:
    return np.asarray(draw(each, size)).astype(int)


def test_the_same_scene_gives_the_same_bytes() -> None:
    assert draw(scene(0, "train", 5)).tobytes() == draw(scene(0, "train", 5)).tobytes()
    assert draw(scene(0, "train", 5)).tobytes() != draw(scene(0, "train", 6)).tobytes()


@pytest.mark.parametrize("size", [64, 96, 128])
def test_pictures_are_rgb_of_the_size_asked(size: int) -> None:
    image = draw(scene(0, "train", 0), size)
    assert (image.mode, image.size) == ("RGB", (size, size))


@pytest.mark.parametrize("color", COLORS)
def test_the_middle_of_a_solid_object_has_its_colour(color: str) -> None:
    found = pixels(Scene("k", "night", (replace(ONE, color=color, shade=(3, -4, 5)),)))[64, 64]
    assert found.tolist() == list(shifted_color(PAINT[color], (3, -4, 5)))


def test_objects_stand_where_their_box_says() -> None:
    empty, full = Scene("k", "sand", ()), Scene("k", "sand", (replace(ONE, x=40.0, y=90.0, radius=17.0),))
    rows, columns = np.nonzero(np.abs(pixels(full) - pixels(empty)).sum(axis=2))
    left, top, right, bottom = full.objects[0].box
    assert left - 1 <= columns.min() <= columns.max() <= right + 1
    assert top - 1 <= rows.min() <= rows.max() <= bottom + 1
    assert columns.min() < 40 < columns.max()


@pytest.mark.parametrize("tilt", [-14.0, 0.0, 14.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_leaves_its_box(shape: str, tilt: float) -> None:
    empty = Scene("k", "sand", ())
    full = Scene("k", "sand", (replace(ONE, shape=shape, tilt=tilt),))
    rows, columns = np.nonzero(np.abs(pixels(full) - pixels(empty)).sum(axis=2))
    assert min(rows.min(), columns.min()) >= 64 - 20 - 2
    assert max(rows.max(), columns.max()) <= 64 + 20 + 2


def test_shapes_textures_and_backgrounds_all_look_different() -> None:
    scenes = [Scene("k", "sky", (replace(ONE, shape=shape),)) for shape in SHAPES]
    scenes += [Scene("k", "sky", (replace(ONE, texture=texture),)) for texture in ("striped", "dotted")]
    scenes += [Scene("k", background, ()) for background in BACKGROUNDS]
    drawn = [pixels(each) for each in scenes]
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert (np.abs(a - b).sum(axis=2) > 60).sum() > 40


def test_every_shape_of_the_world_can_be_drawn() -> None:
    assert set(SHAPE_MASKS) == set(SHAPES)
    assert set(PAINT) == set(COLORS)
