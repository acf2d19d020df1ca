"""Every adapter keeps the protocol: shapes, declarations, determinism, batches, gradients, precision."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clipvil.encoders.base import Encoder
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.errors import EncoderError
from tests.encoders.zoo import IDS

every = pytest.mark.parametrize("short", IDS)
Built = Callable[[str], ModuleEncoder]
Build = Callable[..., ModuleEncoder]
Noise = Callable[..., Tensor]


@every
def test_it_is_an_encoder_frozen_in_evaluation_mode(short: str, built: Built, zoo_names: dict[str, str]) -> None:
    encoder = built(short)
    assert isinstance(encoder, Encoder)
    assert encoder.name == zoo_names[short]
    assert not any(module.training for module in encoder.module.modules())
    assert not any(parameter.requires_grad for parameter in encoder.module.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in encoder.module.parameters())


@every
@pytest.mark.parametrize("cells", [(2, 2), (3, 5), (5, 3)])
def test_declared_channels_and_stride_are_true_at_any_size(
    short: str, cells: tuple[int, int], built: Built, noise: Noise
) -> None:
    encoder = built(short)
    rows, columns = cells
    encoded = encoder.encode(noise(2, rows * encoder.stride, columns * encoder.stride))
    assert encoded.grid.shape == (2, encoder.grid_channels, rows, columns)
    assert encoded.pooled is not None
    assert encoded.pooled.shape == (2, encoder.pooled_channels)
    assert torch.isfinite(encoded.grid).all()
    assert torch.isfinite(encoded.pooled).all()


@every
def test_sides_that_are_no_multiple_of_the_stride_are_taken(short: str, built: Built, noise: Noise) -> None:
    encoder = built(short)
    side = 2 * encoder.stride
    grid = encoder.encode(noise(1, side + 5, side + 9)).grid
    assert grid.shape[2] in (2, 3)
    assert grid.shape[3] in (2, 3)


@every
def test_the_native_size_is_taken(short: str, built: Built, noise: Noise) -> None:
    encoder = built(short)
    height, width = encoder.preprocess.size
    grid = encoder.encode(noise(1, height, width)).grid
    assert grid.shape[2:] == (height // encoder.stride, width // encoder.stride)


@every
def test_a_batch_gives_what_single_pictures_give(short: str, built: Built, noise: Noise) -> None:
    encoder = built(short)
    pixels = noise(3, 2 * encoder.stride, 3 * encoder.stride)
    together = encoder.encode(pixels)
    for index in range(3):
        alone = encoder.encode(pixels[index : index + 1])
        torch.testing.assert_close(alone.grid[0], together.grid[index], atol=1e-4, rtol=1e-4)
        assert alone.pooled is not None
        assert together.pooled is not None
        torch.testing.assert_close(alone.pooled[0], together.pooled[index], atol=1e-4, rtol=1e-4)


@every
def test_the_same_name_gives_the_same_numbers(short: str, built: Built, build: Build, noise: Noise) -> None:
    torch.manual_seed(1234)  # the global seed must not matter
    first, second = built(short), build(short)
    assert first.fingerprint() == second.fingerprint()
    assert len(first.fingerprint()) == 16
    pixels = noise(1, 3 * first.stride, 2 * first.stride)
    assert torch.equal(first.encode(pixels).grid, second.encode(pixels).grid)


@every
def test_outputs_feed_a_trainable_head_and_record_no_graph(short: str, built: Built, noise: Noise) -> None:
    encoder = built(short)
    encoded = encoder.encode(noise(2, 2 * encoder.stride, 2 * encoder.stride))
    assert not encoded.grid.requires_grad
    head = nn.Linear(encoder.grid_channels, 1)
    head(encoded.grid.mean(dim=(2, 3))).sum().backward()
    assert head.weight.grad is not None


@every
def test_gradients_reach_pixels_and_thawed_weights(short: str, build: Build, noise: Noise) -> None:
    encoder = build(short)
    pixels = noise(1, 2 * encoder.stride, 3 * encoder.stride).requires_grad_()
    encoder.encode(pixels).grid.square().sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0
    encoder.module.requires_grad_(True)
    encoded = encoder.encode(pixels.detach())
    assert encoded.pooled is not None
    (encoded.grid.square().sum() + encoded.pooled.square().sum()).backward()
    first = next(parameter for parameter in encoder.module.parameters() if parameter.ndim == 4)  # the first convolution
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


@every
def test_precision_and_layout_change_the_numbers_little_and_the_fingerprint_not(
    short: str, build: Build, noise: Noise
) -> None:
    encoder = build(short)
    before = build(short).fingerprint()
    pixels = noise(1, 2 * encoder.stride, 2 * encoder.stride)
    plain = encoder.encode(pixels).grid
    last = encoder.to(channels_last=True).encode(pixels).grid
    torch.testing.assert_close(last, plain, atol=1e-4, rtol=1e-3)
    half = encoder.to(dtype=torch.bfloat16).encode(pixels)
    assert half.grid.dtype == torch.bfloat16
    assert encoder.fingerprint() == before
    cosine = torch.cosine_similarity(half.grid.float().flatten(), plain.flatten(), dim=0)
    assert cosine > 0.99


@pytest.mark.parametrize("short", ["open_clip-resnet", "open_clip-vit", "timm-vit"])
def test_the_network_can_be_exported_for_rectangles(short: str, build: Build, noise: Noise) -> None:
    """What compiled backends start from: the module alone, traced at a size that needs resampled positions."""
    encoder = build(short)
    pixels = noise(1, 2 * encoder.stride, 3 * encoder.stride)
    exported = torch.export.export(encoder.module, (pixels,)).module()
    grid, pooled = exported(pixels)
    expected = encoder.encode(pixels)
    torch.testing.assert_close(grid, expected.grid, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pooled, expected.pooled, atol=1e-5, rtol=1e-5)


def test_the_fingerprint_tells_weights_layers_positions_and_colours_apart(build: Build) -> None:
    plain = build("open_clip-vit")
    others = [
        build("open_clip-vit", layer="block:-2"),
        build("open_clip-vit", layer="last+norm"),
        build("open_clip-vit", positions="zero"),
        build("open_clip-vit", channels="BGR"),
        build("open_clip-quickgelu"),
        build("open_clip-resnet"),
    ]
    changed = build("open_clip-vit")
    with torch.no_grad():
        changed.module.visual.conv1.weight[0, 0, 0, 0] += 1e-3
    prints = [encoder.fingerprint() for encoder in (plain, changed, *others)]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_is_that_of_the_weights_and_not_of_their_place(built: Built) -> None:
    from clipvil.encoders.registry import create_encoder

    encoder = built("open_clip-resnet")
    folder = encoder.name.partition("local-dir:")[2]
    trailing = create_encoder(f"open_clip/local-dir:{folder}/")
    assert trailing.name != encoder.name
    assert trailing.fingerprint() == encoder.fingerprint()


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        (torch.zeros(3, 64, 64), "(B, 3, H, W)"),
        (torch.zeros(1, 1, 64, 64), "(B, 3, H, W)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "floating"),
        (torch.zeros(1, 3, 8, 640), "at least"),
    ],
)
def test_wrong_pixels_are_refused_in_one_line(pixels: Tensor, what: str, built: Built) -> None:
    with pytest.raises(EncoderError) as caught:
        built("open_clip-vit").encode(pixels)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_of_one_fixed_size_says_so(built: Built) -> None:
    encoder = copy.copy(built("timm-vit"))

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            raise AssertionError("Input height doesn't match model")

    encoder.module = Fixed()
    with pytest.raises(EncoderError, match="--resize square"):
        encoder.encode(torch.zeros(1, 3, 32, 64))


def test_a_tower_that_declares_wrong_channels_is_caught(built: Built) -> None:
    encoder = copy.copy(built("open_clip-resnet"))
    encoder.grid_channels += 1
    with pytest.raises(EncoderError, match="declares the wrong channels"):
        encoder.encode(torch.zeros(1, 3, 64, 64))
