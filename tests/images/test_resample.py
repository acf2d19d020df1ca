"""Resampling equals Pillow: exactly where it must, within one grey level where it is fast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipvil.encoders.base import Interpolation
from clipvil.images import resample as module
from clipvil.images.resample import as_tensor, resample, resample_exact
from tests.images.pictures import photo

MODES: list[Interpolation] = ["bilinear", "bicubic"]
SIDE = st.one_of(st.integers(1, 12), st.integers(1, 400))


def picture(height: int, width: int, kind: str, seed: int) -> Image.Image:
    generator = np.random.default_rng(seed)
    if kind == "photo":
        return photo(height, width, seed)
    if kind == "stripes":
        pixels = np.broadcast_to(generator.integers(0, 256, (1, width, 3)), (height, width, 3))
        pixels = np.clip(pixels + generator.integers(0, 2, (height, 1, 1)), 0, 255)
    elif kind == "board":
        rows, columns = np.arange(height)[:, None], np.arange(width)[None]
        pixels = ((rows + columns // generator.integers(1, 4)) % 2 * 255)[:, :, None].repeat(3, 2)
    else:
        pixels = (
            generator.integers(0, 2, (height, width, 3)) * 255
            if kind == "ink"
            else generator.integers(0, 256, (height, width, 3))
        )
    return Image.fromarray(np.ascontiguousarray(pixels.astype(np.uint8)))


@pytest.mark.parametrize("interpolation", MODES)
@settings(max_examples=120, deadline=None)
@given(
    height=SIDE, width=SIDE, rows=SIDE, columns=SIDE,
    kind=st.sampled_from(["photo", "stripes", "board", "ink", "noise"]), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_within_one_grey_level_of_pillow_at_any_size(
    interpolation: Interpolation, height: int, width: int, rows: int, columns: int, kind: str, seed: int
) -> None:
    image = picture(height, width, kind, seed)
    pixels = resample(image, (rows, columns), interpolation)
    assert pixels.shape == (3, rows, columns) and pixels.dtype == torch.uint8 and pixels.is_contiguous()
    exact = as_tensor(resample_exact(image, (rows, columns), interpolation))
    assert int((pixels.int() - exact.int()).abs().max()) <= 1


@pytest.mark.parametrize("interpolation", MODES)
@settings(max_examples=60, deadline=None)
@given(height=SIDE, width=SIDE, rows=SIDE, columns=SIDE, seed=st.integers(0, 10_000))
def test_the_exact_way_is_pillows_two_passes_rows_first(
    interpolation: Interpolation, height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    image, chosen = picture(height, width, "ink", seed), Image.Resampling[interpolation.upper()]
    expected = image.resize((columns, height), chosen).resize((columns, rows), chosen)
    assert resample_exact(image, (rows, columns), interpolation).tobytes() == expected.tobytes()
    # Where only the order of passes could differ, a plain call of any Pillow agrees: one pass, or rows that shrink.
    for size in ((columns, height), (width, rows)):
        assert resample_exact(image, size[::-1], interpolation).tobytes() == image.resize(size, chosen).tobytes()


def test_both_sides_change_as_in_a_plain_resize_of_a_photograph() -> None:
    # Landscape to a square shrinks the width more, where every version of Pillow takes the rows first.
    image = photo(300, 400)
    for interpolation in MODES:
        expected = image.resize((224, 224), Image.Resampling[interpolation.upper()])
        assert resample_exact(image, (224, 224), interpolation).tobytes() == expected.tobytes()


def test_palettes_and_one_bit_pictures_take_the_nearest_pixel() -> None:
    for image in (photo().quantize(8), photo().convert("1")):
        expected = image.resize((31, 17), Image.Resampling.NEAREST)
        assert resample_exact(image, (17, 31), "bicubic").tobytes() == expected.tobytes()
        assert resample_exact(image, (17, 31), "bicubic").mode == image.mode


def test_hidden_colours_do_not_bleed_out_of_transparent_parts() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (4, 0, 8, 8))
    small = resample_exact(image, (4, 3), "bilinear")
    assert small.mode == "RGBA"
    red, _, _, alpha = small.getpixel((1, 1))  # type: ignore[misc]
    assert red == 0 and 0 < alpha < 255


def test_without_vector_instructions_pillow_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_has_fast_path", lambda: False)
    image = photo(123, 77)
    exact = as_tensor(resample_exact(image, (50, 60), "bicubic"))
    assert torch.equal(resample(image, (50, 60), "bicubic"), exact)


def test_a_tower_is_resampled_in_bounded_memory() -> None:
    tower = Image.new("RGB", (2, 65_535), (10, 20, 30))
    for interpolation in MODES:
        pixels = resample(tower, (16, 1000), interpolation)  # rows first would be 65 million pixels in between
        assert pixels[:, 8, 500].tolist() == [10, 20, 30]


def test_the_same_size_is_the_same_pixels() -> None:
    assert torch.equal(resample(photo(), (40, 60), "bicubic"), as_tensor(photo()))
