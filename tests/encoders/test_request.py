from __future__ import annotations

from pathlib import Path

import pytest

from clipvil.encoders.request import EncoderRequest


@pytest.mark.parametrize(
    "name",
    [
        "mini/contrastive", "mini/random", "timm/tf_efficientnet_lite0:offline", "open_clip/local-dir:somewhere",
        "timm/local-dir:somewhere", "open_clip/RN50:/a/RN50.safetensors", "open_clip/RN50:w.safetensors",
        "timm/resnet18:weights", "torchvision/resnet50:./r.pth", "hf/openai/clip-vit-base-patch32:/a/w.safetensors",
    ],
)  # fmt: skip
def test_weights_on_this_machine_are_local(name: str) -> None:
    assert EncoderRequest.parse(name).local


@pytest.mark.parametrize(
    "name",
    [
        "open_clip/RN50:openai", "open_clip/RN50:random", "open_clip/local-dir:somewhere:random", "timm/resnet18",
        "open_clip/hf-hub:owner/name", "timm/resnet18.a1_in1k", "torchvision/resnet50:IMAGENET1K_V2",
        "hf/openai/clip-vit-base-patch32", "hf/openai/clip-vit-base-patch32:random", "theirs/mini:./w.safetensors",
    ],
)  # fmt: skip
def test_published_random_and_other_peoples_weights_are_not(name: str) -> None:
    assert not EncoderRequest.parse(name).local


def test_a_model_that_is_a_folder_is_local(tmp_path: Path) -> None:
    assert EncoderRequest.parse(f"hf/{tmp_path}").local
    assert not EncoderRequest.parse(f"hf/{tmp_path}/absent").local
