"""Parameters and operations, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch

from clipvil.encoders.base import Preprocess
from clipvil.encoders.cost import gflops, parameters
from clipvil.encoders.module_encoder import ModuleEncoder

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


def test_timm_agrees_with_its_own_parameter_count(built: Built) -> None:
    assert parameters(built("timm-vit")) == sum(p.numel() for p in timm.create_model("test_vit").parameters())
