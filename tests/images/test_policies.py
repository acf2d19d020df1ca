"""The project's own policies: geometry, boxes, and agreement with the transforms that encoders come with."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from clipvil.encoders.base import Preprocess
from clipvil.errors import ImageError, UsageError
from clipvil.images.policies import Native, Square, Warp
from clipvil.images.policy import Resized
from clipvil.images.resample import as_tensor
from clipvil.images.resize import NAMES, policy
from tests.images.pictures import photo

BICUBIC = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", (64, 64))
SIDE = st.integers(1, 300)
ALL = (
    "native", "native:short=48", "native:long=96", "native:short=48,long=96", "square", "square:48", "warp:40x72",
    "clipvil-vqa", "clipvil-caption", "clipvil-pretrain", "clipvil-pretrain:short=48,long=80",
)  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_policy_is_its_name_and_survives_pickling(name: str) -> None:
    built = policy(name)
    assert built.name == name
    assert policy(f" {name} ") == pickle.loads(pickle.dumps(built)) == built  # noqa: S301 - own bytes, as workers do


def test_names_are_made_canonical() -> None:
    assert policy("native:long=96,short=48").name == "native:short=48,long=96"
    assert policy("clipvil-pretrain:short=384,long=640").name == "clipvil-pretrain"
    assert {name.partition(":")[0] for name in NAMES} == {"bgr", *(name.partition(":")[0] for name in ALL)}


@pytest.mark.parametrize(
    "name",
    [
        "", "nearest", "Square", "square:", "square:0", "square:x", "square:-3", "square:3x4", "clipvil-vqa:",
        "warp", "warp:", "warp:3", "warp:0x5", "warp:3x4x5", "warp:-3x4", "native:", "native:short=0", "native:width=3",
        "native:short=9,long=8", "native:short=1,short=2", "native:short=99999999999", "clipvil-vqa:600",
        "clipvil-caption:448", "clipvil-pretrain:short=9,long=8",
    ],
)  # fmt: skip
def test_wrong_names_are_wrong_use_in_one_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        policy(name)
    assert "\n" not in str(caught.value) and "resize policy" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(ALL), height=SIDE, width=SIDE)
def test_every_policy_gives_a_canvas_of_whole_cells_size_and_box(name: str, height: int, width: int) -> None:
    resized = policy(name).apply(Image.new("RGB", (width, height), (255, 255, 255)), BICUBIC, 16)
    assert resized.pixels.dtype == torch.uint8 and resized.pixels.is_contiguous()
    assert resized.original_size == (height, width)
    _, rows, columns = resized.pixels.shape
    top, left, box_rows, box_columns = resized.visible
    assert 0 <= top < top + box_rows <= rows and 0 <= left < left + box_columns <= columns
    # A white picture: inside the box all is white, outside all is black.
    outside = resized.pixels.clone()
    assert int(outside[:, top : top + box_rows, left : left + box_columns].min()) == 255
    outside[:, top : top + box_rows, left : left + box_columns] = 0
    assert int(outside.max()) == 0


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@settings(max_examples=40, deadline=None)
@given(height=SIDE, width=SIDE)
def test_square_is_resize_and_centre_crop_as_the_encoders_do(interpolation: str, height: int, width: int) -> None:
    image = photo(height, width)
    preprocess = Preprocess(BICUBIC.mean, BICUBIC.std, interpolation, (48, 48))  # type: ignore[arg-type]
    own = Compose([Resize(48, InterpolationMode(interpolation)), CenterCrop(48)])
    resized = Square().apply(image, preprocess, 16)
    expected = as_tensor(own(image))
    # Pillow's order of passes depends on its version for towers (see resample.py), so those are compared by shape only.
    assert resized.pixels.shape == expected.shape
    if width >= height:
        assert int((resized.pixels.int() - expected.int()).abs().max()) <= 1
    top, left, box_rows, box_columns = resized.box
    assert (top, left) == (-round((box_rows - 48) / 2), -round((box_columns - 48) / 2))


def test_square_of_a_native_size_that_is_no_square_covers_it() -> None:
    preprocess = Preprocess(BICUBIC.mean, BICUBIC.std, "bilinear", (48, 96))
    for height, width in ((10, 100), (100, 10), (48, 96), (50, 99)):
        resized = Square().apply(photo(height, width), preprocess, 16)
        assert resized.pixels.shape == (3, 48, 96)
        assert resized.visible == (0, 0, 48, 96)


def test_square_refuses_to_blow_up_a_needle() -> None:
    with pytest.raises(ImageError, match="warp:HxW") as caught:
        Square().apply(Image.new("RGB", (65_535, 1)), Preprocess(BICUBIC.mean, BICUBIC.std, "bicubic", (224, 224)), 32)
    assert caught.value.reason == "too_large"


@settings(max_examples=150, deadline=None)
@given(height=st.integers(1, 5000), width=st.integers(1, 5000), stride=st.sampled_from([14, 16, 32]))
def test_native_is_whole_cells_within_the_limits_and_keeps_the_aspect(height: int, width: int, stride: int) -> None:
    rows, columns = Native(224, 448).target(height, width, BICUBIC, stride)
    assert rows % stride == columns % stride == 0
    assert stride <= min(rows, columns) and max(rows, columns) <= 448
    scale = min(224 / min(height, width), 448 / max(height, width))
    for side, target in ((height, rows), (width, columns)):
        assert abs(target - side * scale) <= max(stride / 2 + 1e-9, stride - side * scale)


@pytest.mark.parametrize(
    ("name", "height", "width", "expected"),
    [
        ("native", 480, 640, (224, 288)),  # 298.7 is 9.33 cells
        ("native", 640, 480, (288, 224)),
        ("native", 100, 100, (224, 224)),  # enlarged
        ("native", 100, 1000, (32, 352)),  # the long limit: 373, 11 cells
        ("native", 1, 5000, (32, 352)),
        ("native:short=600,long=1000", 480, 640, (608, 800)),
        ("native:long=224", 480, 640, (160, 224)),
        ("native:long=100", 480, 640, (64, 96)),
        ("native:short=448", 300, 400, (448, 608)),
    ],
)
def test_native_on_worked_sizes(name: str, height: int, width: int, expected: tuple[int, int]) -> None:
    clip = Preprocess(BICUBIC.mean, BICUBIC.std, "bicubic", (224, 224))
    resized = policy(name).apply(Image.new("RGB", (width, height)), clip, 32)
    assert tuple(resized.pixels.shape[1:]) == expected
    assert resized.box == (0, 0, *expected)


def test_warp_takes_height_before_width() -> None:
    image = photo(40, 60)
    pixels = Warp(80, 32).apply(image, BICUBIC, 16).pixels
    expected = as_tensor(image.resize((32, 80), Image.Resampling.BICUBIC))
    assert pixels.shape == (3, 80, 32)
    assert int((pixels.int() - expected.int()).abs().max()) <= 1


def test_the_box_maps_canvas_pixels_back_to_the_picture() -> None:
    # One white pixel row and column; where it lands on the canvas must lead back to where it was.
    for name in ("square", "warp:64x64", "native:short=64,long=128", "clipvil-pretrain:short=64,long=128"):
        pixels = np.zeros((200, 120, 3), np.uint8)
        pixels[100:104, 70:74] = 255
        resized: Resized = policy(name).apply(Image.fromarray(pixels), BICUBIC, 16)
        bright = resized.pixels[0].float()
        rows, columns = torch.meshgrid(torch.arange(bright.shape[0]), torch.arange(bright.shape[1]), indexing="ij")
        row, column = (float((bright * (axis + 0.5)).sum() / bright.sum()) for axis in (rows, columns))
        top, left, height, width = resized.box
        assert abs((row - top) * 200 / height - 102) < 1.5
        assert abs((column - left) * 120 / width - 72) < 1.5


def test_red_and_blue_are_swapped_before_all_else() -> None:
    picture = Image.new("RGB", (40, 30), (10, 20, 30))
    preprocess = Preprocess((0.5,) * 3, (0.5,) * 3, "bicubic", (24, 24))
    swapped, plain = policy("bgr:square"), policy("square")
    found, expected = (one.apply(picture, preprocess, 8) for one in (swapped, plain))
    assert swapped.name == "bgr:square" and policy(swapped.name) == swapped
    assert found.pixels[:, 0, 0].tolist() == [30, 20, 10]
    assert found.pixels.flip(0).equal(expected.pixels) and found.box == expected.box
    for name in ("bgr:bgr:square", "bgr:", "bgr"):
        with pytest.raises(UsageError):
            policy(name)
