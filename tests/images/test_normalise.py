"""Normalisation: the formula, the planes, the memory layout."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from clipvil.encoders.base import Preprocess
from clipvil.images.normalise import normalise

CLIP = Preprocess((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "bicubic", (224, 224))


def batch() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 19, 23), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_it_is_the_formula_for_every_value() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in (CLIP.mean, CLIP.std))
    expected = (pixels.double() / 255 - mean) / std
    normalised = normalise(pixels, CLIP)
    assert normalised.dtype == torch.float32
    assert float((normalised - expected).abs().max()) < 1e-6


def test_bgr_changes_the_place_of_the_planes_and_not_their_mean() -> None:
    swapped = normalise(batch(), dataclasses.replace(CLIP, channels="BGR"))
    assert torch.equal(swapped, normalise(batch(), CLIP)[:, [2, 1, 0]])


def test_the_input_is_left_alone_and_one_picture_is_as_good_as_a_batch() -> None:
    pixels = batch()
    before = pixels.clone()
    whole = normalise(pixels, CLIP)
    assert torch.equal(pixels, before)
    assert torch.equal(normalise(pixels[1], CLIP), whole[1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_layout_is_kept(layout: torch.memory_format) -> None:
    pixels = batch().contiguous(memory_format=layout)
    assert normalise(pixels, CLIP).is_contiguous(memory_format=layout)
    assert torch.equal(normalise(pixels, CLIP), normalise(batch(), CLIP))
