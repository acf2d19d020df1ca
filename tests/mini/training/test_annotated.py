"""Which label a cell of the grid gets, and how labels move with a crop."""

from __future__ import annotations

import numpy as np

from clipvil.mini.training.annotated import Labels, _moved, annotate, assign
from clipvil.mini.world import COLORS, SHAPES, scene


def one(*box: float) -> Labels:
    return Labels(np.array([[box]], np.float32), np.array([[3]]), np.array([[2]]))


def test_a_cell_carries_the_object_that_covers_it() -> None:
    owner = assign(one(34, 66, 60, 92), 4)
    assert owner[0].tolist() == [[-1, -1, -1, -1], [-1, -1, -1, -1], [-1, 0, -1, -1], [-1, -1, -1, -1]]


def test_a_touch_is_not_enough_and_a_share_is() -> None:
    assert assign(one(30, 0, 60, 30), 4)[0, 0].tolist() == [-1, 0, -1, -1]
    assert assign(one(20, 0, 50, 30), 4)[0, 0].tolist() == [0, 0, -1, -1]


def test_of_two_objects_the_larger_share_wins() -> None:
    labels = Labels(np.array([[[0, 0, 16, 30], [10, 0, 32, 32]]], np.float32), np.array([[1, 2]]), np.array([[0, 0]]))
    assert assign(labels, 4)[0, 0, 0] in (0, 1)
    crowded = Labels(np.array([[[-20, 0, 10, 30], [10, 0, 32, 32]]], np.float32), labels.shapes, labels.colors)
    assert assign(crowded, 4)[0, 0, 0] == 1


def test_labels_move_with_the_window_and_vanish_outside() -> None:
    moved = _moved(one(40, 50, 60, 70), np.array([[30, 20]]), 64)
    assert moved.boxes[0, 0].tolist() == [10, 30, 30, 50]
    assert moved.shapes[0, 0] == 3
    assert _moved(one(40, 50, 60, 70), np.array([[60, 20]]), 64).shapes[0, 0] == -1
    assert (assign(_moved(one(40, 50, 60, 70), np.array([[60, 20]]), 64), 2) == -1).all()


def test_annotations_are_class_and_box_of_every_object() -> None:
    labels = annotate(0, 5)
    for row in range(5):
        things = scene(0, "annotated", row).objects
        assert (labels.shapes[row] >= 0).sum() == len(things)
        for k, thing in enumerate(things):
            assert (SHAPES[labels.shapes[row, k]], COLORS[labels.colors[row, k]]) == thing.pair
            np.testing.assert_allclose(labels.boxes[row, k], thing.box, rtol=1e-6)
