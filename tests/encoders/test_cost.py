"""Parameters and operations, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from clipvil.encoders.base import Preprocess
from clipvil.encoders.cost import gflops, parameters
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.registry import create_encoder
from clipvil.encoders.weights import UntrainedWarning

Built = Callable[[str], ModuleEncoder]


def test_a_convolution_counts_two_operations_a_multiply_add() -> None:
    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4, bias=False)

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.convolution(pixels), None

    preprocess = Preprocess((0.5,) * 3, (0.5,) * 3, "bicubic", (64, 64))
    encoder = ModuleEncoder(
        "x", Tower(), preprocess=preprocess, layer="last", grid_channels=8, pooled_channels=None, stride=4
    )
    assert parameters(encoder) == 8 * 3 * 16
    assert gflops(encoder, 64) == pytest.approx(2 * 16 * 16 * 8 * 3 * 16 / 1e9)
    assert gflops(encoder, (64, 128)) == pytest.approx(2 * gflops(encoder, 64))


def test_attention_is_counted(built: Built) -> None:
    """Operations by hand: patches, four projections, two attention products, two layers of the MLP."""
    encoder = built("open_clip-vit")
    tokens, width, layers = 6 * 6 + 1, 32, 3
    block = tokens * width * width * (4 + 8) + 2 * tokens * tokens * width
    expected = 36 * width * 3 * 256 + layers * block + width * 24
    assert gflops(encoder, 96) == pytest.approx(2 * expected / 1e9, rel=1e-6)


def test_text_towers_are_not_counted(built: Built) -> None:
    encoder = built("open_clip-vit")
    assert parameters(encoder) == sum(p.numel() for p in encoder.module.visual.parameters())
    assert not any("token_embedding" in key for key in encoder.module.state_dict())


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet", "test_byobnet"])
def test_timm_agrees_with_its_own_count_without_classifier(name: str) -> None:
    """A thousand classes that nobody reads cost the features nothing, and are no part of what made them."""
    with pytest.warns(UntrainedWarning):
        encoder = create_encoder(f"timm/{name}:random")
    whole = timm.create_model(name)
    classifier = whole.get_classifier()
    assert isinstance(classifier, torch.nn.Linear)
    own = sum(p.numel() for p in classifier.parameters())
    assert parameters(encoder) == sum(p.numel() for p in whole.parameters()) - own


def test_a_classifier_is_no_part_of_the_fingerprint(tmp_path: Path) -> None:
    state = timm.create_model("test_vit").state_dict()
    save_file(state, tmp_path / "whole.safetensors")
    bare = {key: value for key, value in state.items() if not key.startswith("head.")}
    save_file(bare, tmp_path / "bare.safetensors")
    whole, without = (create_encoder(f"timm/test_vit:{tmp_path / name}.safetensors") for name in ("whole", "bare"))
    assert whole.fingerprint() == without.fingerprint()
