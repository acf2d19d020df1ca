"""The pairs that the contrastive encoder sees: drawn the same whoever draws them, windows where they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipvil.mini.drawing import draw
from clipvil.mini.training.pictures import CLOSE_UPS, WINDOW, cut, draw_pairs, draw_range
from clipvil.mini.training.vocabulary import CONTEXT, END, START, WordTable
from clipvil.mini.world import scene


def test_pairs_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = draw_pairs("web", 0, 12, tmp_path / "a", 1), draw_pairs("web", 0, 12, tmp_path / "b", 2)
    assert np.array_equal(one.pictures, two.pictures)
    assert np.array_equal(one.windows, two.windows)
    assert np.array_equal(one.tokens, two.tokens)
    assert np.array_equal(one.pictures[7], np.asarray(draw(scene(0, "web", 7))))


def test_every_text_is_framed_and_padded(tmp_path: Path) -> None:
    tokens = draw_pairs("web", 0, 12, tmp_path, 1).tokens
    assert tokens.shape == (12, CLOSE_UPS + 1, CONTEXT)
    assert (tokens[..., 0] == START).all()
    assert ((tokens == END).sum(axis=-1) == 1).all()
    assert ((tokens == 0).argmax(axis=-1) != 1).all()


def test_windows_are_cut_out_of_the_picture_without_scaling() -> None:
    pictures = draw_range("web", 0, 0, 3)
    views = cut(pictures, np.array([2, 0]), np.array([[10, 30], [64, 64]]))
    assert views.shape == (2, WINDOW, WINDOW, 3)
    assert np.array_equal(views[0], pictures[2, 30:94, 10:74])
    assert np.array_equal(views[1], pictures[0, 64:, 64:])


def test_the_table_cuts_long_texts_and_keeps_the_end() -> None:
    ids = WordTable().encode("red, " * 60)
    assert len(ids) == CONTEXT
    assert (ids[0], ids[-1]) == (START, END)
    assert len(WordTable()) <= 256, "token ids are stored in one byte"
