"""The text of --layer: what it means, and one clear line for what it cannot mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clipvil.encoders.layers import Layer
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.errors import EncoderError

Build = Callable[..., ModuleEncoder]


@pytest.mark.parametrize(
    "text", ["last", "last+norm", "last+norm+proj", "block:0", "block:-2+norm", "stage:4", "block:11+norm+proj"]
)
def test_text_survives_the_round_trip(text: str) -> None:
    assert str(Layer.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "first", "block", "block:x", "stage:1.5", "last+proj", "last+norm+norm", "last norm"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(EncoderError, match=r"layer"):
        Layer.parse(text)


def test_positions_count_from_both_ends() -> None:
    assert Layer.parse("block:-1").position(12, kind="block", name="x") == 11
    assert Layer.parse("block:3").position(12, kind="block", name="x") == 3
    assert Layer.parse("last").position(5, kind="stage", name="x") == 4
    for text in ("block:12", "block:-13", "stage:0"):
        with pytest.raises(EncoderError, match="block:0 to block:11"):
            Layer.parse(text).position(12, kind="block", name="x")


@pytest.mark.parametrize(
    ("short", "layer"),
    [
        ("open_clip-resnet", "block:1"),
        ("open_clip-resnet", "stage:5"),
        ("open_clip-resnet", "last+norm"),
        ("open_clip-vit", "stage:1"),
        ("open_clip-vit", "block:3"),
        ("timm-vit", "last+norm+proj"),
        ("timm-resnet", "last+norm"),
        ("hf-siglip", "last+norm+proj"),
        ("hf-resnet", "last+norm"),
        ("hf-dinov2", "stage:1"),
        ("torchvision-resnet", "last+norm"),
    ],
)
def test_layers_a_network_lacks_are_refused(short: str, layer: str, build: Build) -> None:
    with pytest.raises(EncoderError) as caught:
        build(short, layer=layer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("short", "layer"),
    [
        ("open_clip-resnet", "last"),
        ("open_clip-vit", "last"),
        ("hf-clip", "last"),
        ("timm-vit", "last+norm"),
        ("hf-siglip", "last+norm"),
        ("hf-dinov2", "last+norm"),
        ("timm-resnet", "last"),
        ("hf-resnet", "last"),
    ],
)
def test_defaults_of_the_families(short: str, layer: str, built: Callable[[str], ModuleEncoder]) -> None:
    assert built(short).layer == layer


def test_all_networks_that_norm_after_pooling_give_plain_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    from clipvil.encoders.timm_tower import TimmTower

    trunk = timm.create_model("test_vit", global_pool="avg", dynamic_img_size=True)
    assert str(TimmTower(trunk, Layer.parse("last+norm"), name="x", size=(160, 160)).layer) == "last"
