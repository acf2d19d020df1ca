"""The published policies, against their recorded pictures and an independent transcription of their rules."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from clipvil.encoders.base import Preprocess
from clipvil.images.decode import decode
from clipvil.images.normalise import normalise
from clipvil.images.prepare import prepare
from clipvil.images.published import ClipvilPretrain, ClipvilVqa
from clipvil.images.resample import as_tensor
from clipvil.images.resize import policy
from tests.images.pictures import photo
from tests.shared import shared

CLIP = Preprocess((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "bicubic", (224, 224))
RECORDED = (
    "rgb_landscape", "rgb_portrait", "rgb_square", "extra_gray", "extra_rgba", "extra_palette", "extra_overflow",
)  # fmt: skip


def rule() -> dict[str, Any]:
    return json.loads(shared("fixtures", "clipvil_p", "resize_rule.json").read_text())


def box_of(geometry: dict[str, Any]) -> tuple[int, int, int, int]:
    left, top, _, _ = geometry["pad_left_top_right_bottom"]
    width, height = geometry["resized_wh"]
    return top, left, height, width


@pytest.mark.parametrize("table", ["full_canvas", "tiny_canvas"])
def test_pretrain_geometry_of_every_recorded_size(table: str) -> None:
    recorded = rule()[table]
    pretrain = ClipvilPretrain(recorded["short"], recorded["long"])
    assert len(recorded["rows"]) >= 24
    for row in recorded["rows"]:
        width, height = row["input_wh"]
        assert pretrain.first_size(height, width) == tuple(reversed(row["resized_wh"])), row
        resized = pretrain.apply(Image.new("L", (width, height), 255), CLIP, 32)
        assert tuple(resized.pixels.shape[1:]) == tuple(reversed(row["canvas_wh"])), row
        assert resized.box == box_of(row), row


@pytest.mark.parametrize("name", RECORDED)
def test_pretrain_pictures_are_equal_to_the_pixel(name: str) -> None:
    folder = shared("fixtures", "clipvil_p")
    recorded, tensors = rule(), load_file(folder / "resize_pixels.safetensors")
    canvas, entry = recorded["images_canvas"], recorded["images"][name]
    pretrain = policy(f"clipvil-pretrain:short={canvas['short']},long={canvas['long']}")
    resized = prepare((folder / entry["png"]).read_bytes(), pretrain, CLIP, 16, where=name)
    assert torch.equal(resized.pixels.permute(1, 2, 0), tensors[f"{name}/padded_uint8"])
    assert resized.box == box_of(entry["geometry"])
    if f"{name}/pixels" in tensors:
        preprocess = Preprocess(
            tuple(recorded["normalisation"]["mean"]), tuple(recorded["normalisation"]["std"]), "bicubic", (224, 224)
        )
        normalised = normalise(resized.pixels, preprocess)
        assert float((normalised - tensors[f"{name}/pixels"]).abs().max()) < 1e-6


def test_pretrain_at_full_size_is_equal_to_the_pixel() -> None:
    folder = shared("fixtures", "clipvil_p", "images")
    resized = prepare((folder / "full_input.png").read_bytes(), policy("clipvil-pretrain"), CLIP, 32, where="full")
    expected = decode((folder / "full_canvas.png").read_bytes(), where="canvas")
    assert torch.equal(resized.pixels, as_tensor(expected))


def test_every_recorded_picture_has_a_test() -> None:
    assert set(rule()["images"]) == set(RECORDED)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (384, 512)), (427, 640, (384, 575)), (640, 640, (384, 384)), (360, 640, (360, 640)),
        (480, 1280, (240, 640)), (483, 1280, (242, 641)), (1, 5000, (1, 5000)), (5000, 1, (5000, 1)),
    ],
)  # fmt: skip
def test_pretrain_on_worked_sizes(height: int, width: int, expected: tuple[int, int]) -> None:
    assert ClipvilPretrain().first_size(height, width) == expected


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (600, 800)), (640, 480, (800, 600)), (427, 640, (600, 899)), (600, 600, (600, 600)),
        (300, 640, (469, 1000)), (1280, 480, (1000, 375)), (1, 5000, (1, 1000)), (600, 1000, (600, 1000)),
    ],
)  # fmt: skip
def test_vqa_first_resize_on_worked_sizes(height: int, width: int, expected: tuple[int, int]) -> None:
    assert ClipvilVqa.first_size(height, width) == expected


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_vqa_first_resize_is_the_shortest_edge_rule(height: int, width: int) -> None:
    scale = 600 / min(height, width)
    if max(height, width) * scale > 1000:
        scale = 1000 / max(height, width)
    for side, result in zip((height, width), ClipvilVqa.first_size(height, width), strict=True):
        assert abs(result - max(1, side * scale)) <= 0.5 + 1e-6


@pytest.mark.parametrize(("height", "width"), [(30, 40), (40, 30), (20, 60)])
def test_vqa_resamples_twice_and_lays_portraits_down(height: int, width: int) -> None:
    image = photo(height, width)
    rows, columns = ClipvilVqa.first_size(height, width)
    steps = [(columns, height), (columns, rows), (1000, rows), (1000, 600)]
    expected = image
    for size in steps:
        expected = expected.resize(size, Image.Resampling.BILINEAR)
    resized = policy("clipvil-vqa").apply(image, CLIP, 32)
    assert resized.pixels.shape == (3, 600, 1000) and resized.box == (0, 0, 600, 1000)
    assert torch.equal(resized.pixels, as_tensor(expected))
    once = as_tensor(image.resize((1000, 600), Image.Resampling.BILINEAR))
    assert not torch.equal(resized.pixels, once)


def test_caption_is_one_bicubic_warp() -> None:
    image = photo(300, 400)
    resized = policy("clipvil-caption").apply(image, CLIP, 32)
    assert torch.equal(resized.pixels, as_tensor(image.resize((448, 448), Image.Resampling.BICUBIC)))
    assert resized.original_size == (300, 400) and resized.box == (0, 0, 448, 448)


def test_pretrain_resizes_palettes_before_their_colours_are_known() -> None:
    image = photo(30, 50).quantize(16)
    canvas = policy("clipvil-pretrain:short=48,long=96").apply(image, CLIP, 16).pixels
    colours = {tuple(colour) for colour in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in canvas.permute(1, 2, 0).reshape(-1, 3).tolist()} <= colours | {(0, 0, 0)}
