"""The adapters' outputs are the libraries' own at the native size, and on rectangles where the library knows them."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import pytest
import timm
import torch
from torch import Tensor

from clipvil.encoders.clip_resnet import ClipResNetTower
from clipvil.encoders.layers import Layer
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.registry import create_encoder
from clipvil.encoders.timm_tower import TimmTower
from clipvil.encoders.torchvision_towers import TorchvisionVitTower
from clipvil.encoders.weights import UntrainedWarning

Built = Callable[[str], ModuleEncoder]
Build = Callable[..., ModuleEncoder]
Noise = Callable[..., Tensor]
close = torch.testing.assert_close
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def library(encoder: ModuleEncoder, **choices: object) -> torch.nn.Module:
    """The same folder read by open_clip itself."""
    return open_clip.create_model(encoder.name.removeprefix("open_clip/"), **choices).eval()


@pytest.fixture(scope="module")
def rn50() -> ModuleEncoder:
    with pytest.warns(UntrainedWarning):
        encoder = create_encoder("open_clip/RN50:random")
    assert isinstance(encoder, ModuleEncoder)
    return encoder


def test_open_clip_rn50_at_its_native_size(rn50: ModuleEncoder, noise: Noise) -> None:
    assert rn50.preprocess.size == (224, 224)
    assert (rn50.grid_channels, rn50.pooled_channels, rn50.stride) == (2048, 1024, 32)
    visual = rn50.module.visual
    pixels = noise(1, 224, 224)
    encoded = rn50.encode(pixels)
    own = visual.forward_intermediates(pixels, indices=[4])
    close(encoded.grid, own["image_intermediates"][0], **TOLERANCE)
    close(encoded.pooled, visual(pixels), **TOLERANCE)
    assert rn50.encode(noise(1, 384, 640)).grid.shape == (1, 2048, 12, 20)


def test_open_clip_resnet_read_from_a_folder(built: Built, noise: Noise) -> None:
    encoder = built("open_clip-resnet")
    model = library(encoder)
    pixels = noise(2, 128, 128)
    encoded = encoder.encode(pixels)
    close(encoded.pooled, model.encode_image(pixels), **TOLERANCE)
    close(encoded.grid, model.visual.forward_intermediates(pixels)["image_intermediates"][-1], **TOLERANCE)


@pytest.mark.parametrize("stage", [0, 1, 2, 3, 4])
def test_open_clip_resnet_stages(stage: int, build: Build, noise: Noise) -> None:
    encoder = build("open_clip-resnet", layer=f"stage:{stage}")
    pixels = noise(1, 128, 128)
    own = library(encoder).visual.forward_intermediates(pixels)  # of all: asked for one, open_clip pools that one
    encoded = encoder.encode(pixels)
    close(encoded.grid, own["image_intermediates"][stage], **TOLERANCE)
    close(encoded.pooled, own["image_features"], **TOLERANCE)
    assert encoded.grid.shape[1:] == (encoder.grid_channels, 128 // encoder.stride, 128 // encoder.stride)


@pytest.mark.parametrize("short", ["open_clip-vit", "open_clip-quickgelu"])
@pytest.mark.parametrize(
    ("layer", "index", "norm"), [("last", 2, False), ("block:-2", 1, False), ("block:0+norm", 0, True)]
)
def test_open_clip_vit_blocks(short: str, layer: str, index: int, norm: bool, build: Build, noise: Noise) -> None:
    encoder = build(short, layer=layer)
    pixels = noise(2, 96, 96)
    own = library(encoder).visual.forward_intermediates(pixels, indices=[index], normalize_intermediates=norm)
    encoded = encoder.encode(pixels)
    close(encoded.grid, own["image_intermediates"][0], **TOLERANCE)
    close(encoded.pooled, own["image_features"], **TOLERANCE)


def test_open_clip_vit_projected_tokens(build: Build, noise: Noise) -> None:
    encoder = build("open_clip-vit", layer="last+norm+proj")
    model = library(encoder)
    pixels = noise(1, 96, 96)
    own = model.visual.forward_intermediates(pixels, indices=[2], normalize_intermediates=True, output_fmt="NLC")
    grid = encoder.encode(pixels).grid
    assert grid.shape == (1, encoder.pooled_channels, 6, 6)
    close(grid.flatten(2).transpose(1, 2), own["image_intermediates"][0] @ model.visual.proj, **TOLERANCE)


@pytest.mark.parametrize("size", [(64, 160), (160, 64), (128, 128)])
def test_open_clip_vit_on_rectangles_equals_a_model_that_open_clip_resized(
    size: tuple[int, int], built: Built, noise: Noise
) -> None:
    encoder = built("open_clip-vit")
    model = library(encoder, force_image_size=size)
    pixels = noise(1, *size)
    encoded = encoder.encode(pixels)
    close(encoded.pooled, model.encode_image(pixels), **TOLERANCE)
    close(encoded.grid, model.visual.forward_intermediates(pixels)["image_intermediates"][-1], **TOLERANCE)


def test_attention_pooling_on_rectangles_equals_timm(noise: Noise) -> None:
    """The one CLIP ResNet head that resamples by itself is timm's: same weights, same answer on a 3x5 map."""
    visual = open_clip.model._build_vision_tower(
        24, {"image_size": 128, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
    ).eval()
    tower = ClipResNetTower(visual, Layer.parse("last"), name="x").eval()
    own = visual.attnpool
    theirs = timm.layers.AttentionPool2d(256, feat_size=4, out_features=24, head_dim=32, qkv_separate=True).eval()
    parts = {"q": own.q_proj, "k": own.k_proj, "v": own.v_proj, "proj": own.c_proj}
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    theirs.load_state_dict({**state, "pos_embed": own.positional_embedding})
    for shape in ((4, 4), (3, 5), (5, 3)):
        features = torch.randn(2, 256, *shape, generator=torch.Generator().manual_seed(0))
        close(tower.attention_pool(features), theirs(features), **TOLERANCE)


@pytest.mark.parametrize(
    ("layer", "index", "norm"), [("last", -1, False), ("last+norm", -1, True), ("block:1", 1, False)]
)
def test_timm_vit(layer: str, index: int, norm: bool, build: Build, noise: Noise) -> None:
    encoder = build("timm-vit", layer=layer)
    model = timm.create_model("test_vit").eval()  # built for one size, unlike ours
    model.reset_classifier(0)
    model.load_state_dict(encoder.module.trunk.state_dict())
    pixels = noise(2, *encoder.preprocess.size)
    final, maps = model.forward_intermediates(pixels, indices=[index % len(model.blocks)], norm=norm)
    encoded = encoder.encode(pixels)
    close(encoded.grid, maps[0], **TOLERANCE)
    close(encoded.pooled, model.forward_head(final, pre_logits=True), **TOLERANCE)


@pytest.mark.parametrize("short", ["timm-resnet", "timm-convnext", "timm-efficientnet"])
def test_timm_networks_of_maps(short: str, built: Built, build: Build, noise: Noise) -> None:
    encoder = built(short)
    model = encoder.module.trunk
    pixels = noise(2, *encoder.preprocess.size)
    encoded = encoder.encode(pixels)
    close(encoded.grid, model.forward_features(pixels), **TOLERANCE)
    close(encoded.pooled, model.forward_head(model.forward_features(pixels), pre_logits=True), **TOLERANCE)
    for index, tap in enumerate(model.feature_info):
        staged = build(short, layer=f"stage:{index}")
        assert (staged.grid_channels, staged.stride) == (tap["num_chs"], tap["reduction"])
        close(staged.encode(pixels).grid, model.forward_intermediates(pixels, indices=[index])[1][0], **TOLERANCE)


def test_timm_clip_towers_pool_into_the_joint_space(noise: Noise) -> None:
    trunk = timm.create_model("test_vit", num_classes=24, dynamic_img_size=True).eval()
    tower = TimmTower(trunk, Layer.parse("last+norm+proj"), name="x", size=(160, 160), projects=True).eval()
    pixels = noise(1, 160, 160)
    grid, pooled = tower(pixels)
    assert (tower.grid_channels, tower.pooled_channels) == (24, 24)
    close(pooled, trunk(pixels), **TOLERANCE)
    tokens = trunk.forward_intermediates(pixels, indices=1, norm=True)[1][0]
    close(grid, trunk.head(tokens.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), **TOLERANCE)


@pytest.mark.parametrize("short", ["hf-clip", "hf-siglip", "hf-dinov2", "hf-vit"])
def test_hugging_face_vits(short: str, built: Built, build: Build, noise: Noise) -> None:
    import transformers

    encoder = built(short)
    kinds = {"hf-clip": "CLIPVisionModelWithProjection", "hf-siglip": "SiglipVisionModel"}
    kind = getattr(transformers, kinds.get(short, "AutoModel"))
    model = kind.from_pretrained(encoder.name.removeprefix("hf/")).eval()
    prefix = {"hf-siglip": 0}.get(short, 1)
    pixels = noise(2, 64, 64)
    own = model(pixel_values=pixels, output_hidden_states=True)
    encoded = encoder.encode(pixels)
    close(encoded.grid.flatten(2).transpose(1, 2), own.last_hidden_state[:, prefix:], **TOLERANCE)
    pooled = {"hf-clip": "image_embeds", "hf-siglip": "pooler_output"}.get(short)
    close(encoded.pooled, getattr(own, pooled) if pooled else own.last_hidden_state[:, 0], **TOLERANCE)
    deeper = build(short, layer="block:-2").encode(pixels)
    close(deeper.grid.flatten(2).transpose(1, 2), own.hidden_states[-2][:, prefix:], **TOLERANCE)
    close(deeper.pooled, encoded.pooled, **TOLERANCE)


@pytest.mark.parametrize("short", ["hf-clip", "hf-siglip"])
def test_hugging_face_final_norm(short: str, build: Build, noise: Noise) -> None:
    pixels = noise(1, 64, 64)
    raw, normed = build(short, layer="last"), build(short, layer="last+norm")
    model = normed.module.model
    norm = getattr(model, "vision_model", model).post_layernorm
    close(
        norm(raw.encode(pixels).grid.permute(0, 2, 3, 1)), normed.encode(pixels).grid.permute(0, 2, 3, 1), **TOLERANCE
    )


def test_hugging_face_clip_projected_tokens(build: Build, noise: Noise) -> None:
    pixels = noise(1, 64, 64)
    normed, projected = build("hf-clip", layer="last+norm"), build("hf-clip", layer="last+norm+proj")
    assert projected.grid_channels == projected.pooled_channels == 24
    tokens = normed.encode(pixels).grid.permute(0, 2, 3, 1)
    expected = normed.module.model.visual_projection(tokens).permute(0, 3, 1, 2)
    close(projected.encode(pixels).grid, expected, **TOLERANCE)


def test_torchvision_resnet(built: Built, noise: Noise) -> None:
    from torchvision.models import resnet18

    encoder = built("torchvision-resnet")
    model = resnet18().eval()
    stem, *layers = encoder.module.stages
    for name, part in zip(("conv1", "bn1"), stem, strict=False):
        getattr(model, name).load_state_dict(part.state_dict())
    for index, layer in enumerate(layers, start=1):
        getattr(model, f"layer{index}").load_state_dict(layer.state_dict())
    model.fc = torch.nn.Identity()
    pixels = noise(1, 96, 128)
    close(encoder.encode(pixels).pooled, model(pixels), **TOLERANCE)
    assert encoder.encode(pixels).grid.shape == (1, 512, 3, 4)


def test_torchvision_vit(noise: Noise) -> None:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64).eval()
    model.heads = torch.nn.Identity()
    pixels = noise(2, 64, 64)
    tower = TorchvisionVitTower(model, Layer.parse("last+norm"), name="x").eval()
    grid, pooled = tower(pixels)
    close(pooled, model(pixels), **TOLERANCE)
    assert grid.shape == (2, 32, 4, 4)
    assert tower(noise(1, 48, 96))[0].shape == (1, 32, 3, 6)
    first = TorchvisionVitTower(model, Layer.parse("block:0"), name="x").eval()
    assert not torch.allclose(first(pixels)[0], grid)
    close(first(pixels)[1], pooled, **TOLERANCE)
