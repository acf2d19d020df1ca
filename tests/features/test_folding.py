"""Batch norms inside convolutions: the same features, fewer operations, and never where it would change them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clipvil.encoders.registry import create_encoder
from clipvil.features.folding import fold_batch_norms


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def lively(module: nn.Module) -> nn.Module:
    """Statistics and factors as after training: at their defaults a wrong fold would go unnoticed."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in ((part.running_mean, -0.5, 0.5), (part.running_var, 0.5, 2.0)):
                assert values is not None
                values.uniform_(low, high, generator=generator)
            with torch.no_grad():
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.uniform_(-0.2, 0.2, generator=generator)
    return module.eval()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["mini/contrastive", "torchvision/resnet18:random", "timm/resnet10t:random"])
def test_every_norm_goes_and_the_features_stay(name: str) -> None:
    module = lively(create_encoder(name).module)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    folded = fold_batch_norms(module, pixels)
    assert norms(module) > 0 and norms(folded) == 0
    with torch.no_grad():
        for one, other in zip(module(pixels), folded(pixels), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5 * float(one.abs().max()), rtol=1e-4)


class Early(nn.Module):
    """A network that uses a map before its norm as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.conv(pixels)
        return x + self.norm(x)


class Shared(nn.Module):
    """A convolution that runs twice, with two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, pixels: Tensor) -> Tensor:
        x: Tensor = self.two(self.conv(self.one(self.conv(pixels))))
        return x


@pytest.mark.parametrize("network", [Early, Shared])
def test_what_cannot_be_folded_is_left_as_it_is(network: type[nn.Module]) -> None:
    module = lively(network())
    assert fold_batch_norms(module, torch.randn(1, 3, 16, 16)) is module
