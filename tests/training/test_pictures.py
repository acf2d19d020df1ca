from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipvil.errors import ClipvilError, ImageError, UsageError
from clipvil.images.decode import decode
from clipvil.training.pictures import open_picture

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
CHW = torch.from_numpy(RGB).permute(2, 0, 1)


def pixels(picture: Any) -> np.ndarray:
    return np.asarray(open_picture(picture).convert("RGB"))


@pytest.mark.parametrize(
    "picture",
    [
        RGB,
        RGB[:, ::1],
        np.asfortranarray(RGB),
        RGB[::-1][::-1],
        Image.fromarray(RGB),
        CHW,
        CHW.contiguous(),
        CHW.float() / 255,
        CHW.double() / 255,
        (CHW.float() / 255).requires_grad_(),
    ],
)
def test_every_kind_of_picture_in_hand_has_the_same_pixels(picture: Any) -> None:
    assert np.array_equal(pixels(picture), RGB)


@pytest.mark.parametrize("grey", [RGB[:, :, 0], RGB[:, :, :1], CHW[0], CHW[:1], CHW[:1].float() / 255])
def test_grey_pictures_are_taken_in_two_or_three_dimensions(grey: Any) -> None:
    assert np.array_equal(pixels(grey), np.repeat(RGB[:, :, :1], 3, axis=2))


def test_files_by_text_or_path_and_pillow_agree(tmp_path: Path) -> None:
    """A photograph that lies on its side in the file stands upright, whoever opens it."""
    path = tmp_path / "side.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(path, exif=exif)
    expected = np.asarray(decode(path.read_bytes(), where="x"))
    assert expected.shape == (7, 5, 3)
    for picture in (path, str(path), Image.open(path)):
        assert np.array_equal(pixels(picture), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pillow_pictures_may_have_any_mode(mode: str) -> None:
    image = (
        Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    )
    assert open_picture(image).size == (7, 5)
    if mode == "I;16":
        assert np.array_equal(np.asarray(open_picture(image)), RGB[:, :, 0])


@pytest.mark.parametrize(
    ("picture", "kind", "what"),
    [
        (RGB.astype(np.float32) / 255, UsageError, "scale it to 0..255"),
        (RGB.astype(np.int64), UsageError, "must be uint8"),
        (RGB.astype(np.uint16), UsageError, "must be uint8"),
        (RGB.astype(bool), UsageError, "must be uint8"),
        (RGB.transpose(2, 0, 1), UsageError, "transpose(1, 2, 0)"),
        (RGB[None], UsageError, "one picture at a time"),
        (np.zeros((4, 4, 4), np.uint8), UsageError, "not uint8 (4, 4, 4)"),
        (np.zeros((0, 4, 3), np.uint8), UsageError, "at least one pixel"),
        (np.zeros(3, np.uint8), UsageError, "not uint8 (3,)"),
        (CHW.permute(1, 2, 0), UsageError, "permute(2, 0, 1)"),
        (CHW[None], UsageError, "one picture at a time"),
        (CHW.long(), UsageError, "not torch.int64"),
        (CHW.float(), UsageError, "between 0 and 1"),
        (CHW.float() / 255 - 0.5, UsageError, "between 0 and 1"),
        (torch.full((3, 4, 4), float("nan")), UsageError, "between nan and nan"),
        (torch.zeros(3, 0, 4), UsageError, "at least one pixel"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), ImageError, "floating point"),
        (None, UsageError, "not NoneType"),
        (b"bytes", UsageError, "not bytes"),
        ([1, 2], UsageError, "not list"),
        ("no\0where.png", ImageError, "null"),
        ("nowhere.png", ImageError, "no such file"),
        (".", ImageError, "directory"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(picture: Any, kind: type[ClipvilError], what: str) -> None:
    with pytest.raises(kind) as caught:
        open_picture(picture)
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_a_cut_file_that_pillow_has_not_read_yet_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    for picture in (path, Image.open(path)):
        with pytest.raises(ImageError) as caught:
            open_picture(picture)
        assert "\n" not in str(caught.value)
