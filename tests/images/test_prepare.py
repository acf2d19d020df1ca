"""From a folder of odd and broken files to canvases: the good ones arrive, every other one has its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipvil.encoders.base import Preprocess
from clipvil.errors import ImageError, UsageError
from clipvil.images.prepare import prepare
from clipvil.images.resize import policy
from clipvil.images.sources import open_source
from tests.images.broken import OK, make_broken_folder
from tests.images.pictures import encode, jpeg, photo

PREPROCESS = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", (64, 64))


@pytest.mark.parametrize("name", ["square", "native", "clipvil-pretrain"])
def test_every_broken_file_has_its_reason_and_every_good_one_a_canvas(tmp_path: Path, name: str) -> None:
    expected = make_broken_folder(tmp_path / "pictures")
    outcomes = {}
    for item in open_source(tmp_path / "pictures"):
        assert "\n" not in item.where
        try:
            resized = prepare(item.read(), policy(name), PREPROCESS, 16, where=item.where)
            assert resized.original_size == (40, 60)
            outcomes[item.image_id] = OK
        except ImageError as error:
            outcomes[item.image_id] = error.reason
            assert str(error).startswith(item.where) and "\n" not in str(error)
    assert outcomes == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; permissions cannot be tested")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    make_broken_folder(tmp_path)
    with pytest.raises(ImageError, match=r"forbidden\.jpg: cannot be opened"):
        open_source(tmp_path).find("forbidden.jpg").read()


def test_a_canvas_smaller_than_one_cell_is_wrong_use_and_not_a_bad_picture() -> None:
    for name in ("warp:16x64", "square:16", "clipvil-pretrain:short=16,long=80", "native:short=8,long=16"):
        with pytest.raises(UsageError, match="cell"):
            prepare(jpeg(), policy(name), PREPROCESS, 32, where="x.jpg")


def test_published_policies_uncover_what_transparency_hides_and_the_own_ones_show_white() -> None:
    image = photo(64, 64).convert("RGBA")
    image.putalpha(0)
    data = encode(image, "PNG")
    over_white = prepare(data, policy("square"), PREPROCESS, 16, where="x.png").pixels
    uncovered = prepare(data, policy("clipvil-caption"), PREPROCESS, 16, where="x.png").pixels
    assert int(over_white.min()) == 255
    assert int(uncovered.float().mean()) < 200
