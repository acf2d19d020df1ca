"""Every colour mode to RGB."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipvil.errors import ImageError
from clipvil.images.colour import reduce_depth, to_rgb
from clipvil.images.decode import decode
from tests.images.pictures import encode, photo


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LA", "PA", "RGBA", "RGBa", "La"])
def test_opaque_pictures_come_out_as_pillow_converts_them(mode: str) -> None:
    image = photo().convert("RGBA").convert("LA") if mode == "La" else photo()
    image = image.convert(mode)
    expected = np.asarray(image.convert("LA").convert("RGB") if mode == "La" else image.convert("RGB")).astype(int)
    for alpha in ("white", "drop"):
        converted = to_rgb(image, alpha=alpha)
        assert converted.mode == "RGB"
        assert np.abs(np.asarray(converted).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_white_or_uncovered(mode: str) -> None:
    image = Image.new(mode, (2, 1), (0,) * len(mode))
    image.putpixel((1, 0), (0,) * (len(mode) - 1) + (255,))
    assert np.asarray(to_rgb(image))[0].tolist() == [[255] * 3, [0] * 3]
    assert np.asarray(to_rgb(image, alpha="drop"))[0].tolist() == [[0] * 3, [0] * 3]


@pytest.mark.parametrize("alpha", [0, 64, 128, 255])
def test_half_transparent_pixels_are_mixed_with_white(alpha: int) -> None:
    image = Image.new("RGBA", (1, 1), (200, 100, 0, alpha))
    expected = [round((value * alpha + 255 * (255 - alpha)) / 255) for value in (200, 100, 0)]
    assert np.abs(np.asarray(to_rgb(image))[0, 0].astype(int) - expected).max() <= 1


def test_a_transparent_colour_of_palette_grey_and_rgb_files() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    cases = [
        (encode(palette, "PNG", transparency=0), [[255] * 3, [40, 50, 60]], [[10, 20, 30], [40, 50, 60]]),
        (
            encode(Image.fromarray(np.array([[7, 9]], np.uint8)), "PNG", transparency=7),
            [[255] * 3, [9] * 3],
            [[7] * 3, [9] * 3],
        ),
        (
            encode(Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), "PNG", transparency=(1, 2, 3)),
            [[255] * 3, [4, 5, 6]],
            [[1, 2, 3], [4, 5, 6]],
        ),
    ]
    for data, white, uncovered in cases:
        assert np.asarray(decode(data, where="x"))[0].tolist() == white
        kept = decode(data, where="x", convert=False)
        assert np.asarray(to_rgb(kept, alpha="drop"))[0].tolist() == uncovered


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_sixteen_bits_are_rounded_to_the_nearest_of_256_levels(values: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.uint16))
    assert np.asarray(reduce_depth(image))[0].tolist() == [int(value / 257 + 0.5) for value in values]


def test_ranges_that_cannot_be_known_are_refused() -> None:
    for array in (np.ones((2, 2), np.float32), np.full((2, 2), 70_000, np.int32), np.full((2, 2), -1, np.int32)):
        with pytest.raises(ImageError, match="8 or 16 bit") as caught:
            to_rgb(Image.fromarray(array))
        assert caught.value.reason == "unsupported"
    assert np.asarray(to_rgb(Image.fromarray(np.full((2, 2), 65_535, np.int32)))).min() == 255


def test_colour_spaces_that_need_a_profile_are_refused() -> None:
    with pytest.raises(ImageError, match="LAB") as caught:
        to_rgb(Image.new("LAB", (2, 2)))
    assert caught.value.reason == "unsupported"
