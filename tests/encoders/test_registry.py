"""Names: taken apart, matched, extended by others, and answered with the nearest right one when wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import clipvil
from clipvil.encoders import registry
from clipvil.encoders.request import EncoderRequest
from clipvil.errors import ClipvilError, EncoderError, UsageError


@pytest.mark.parametrize(
    ("name", "library", "model", "weights"),
    [
        ("open_clip/RN50x4:openai", "open_clip", "RN50x4", "openai"),
        ("open_clip/local-dir:/a/b", "open_clip", "local-dir:/a/b", None),
        ("open_clip/local-dir:/a/b:random", "open_clip", "local-dir:/a/b", "random"),
        ("open_clip/RN50:/a/file.safetensors", "open_clip", "RN50", "/a/file.safetensors"),
        ("timm/vit_base_patch16_clip_224.openai", "timm", "vit_base_patch16_clip_224.openai", None),
        ("timm/hf-hub:owner/name", "timm", "hf-hub:owner/name", None),
        ("hf/google/siglip-base-patch16-224", "hf", "google/siglip-base-patch16-224", None),
        ("hf//a/folder:random", "hf", "/a/folder", "random"),
        ("mini/contrastive", "mini", "contrastive", None),
    ],
)
def test_names_are_taken_apart(name: str, library: str, model: str, weights: str | None) -> None:
    request = EncoderRequest.parse(name)
    assert (request.library, request.model, request.weights) == (library, model, weights)
    assert request.untrained == (weights == "random")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RN50", "library/model:weights"),
        ("open_clip/", "library/model:weights"),
        ("open_clip/RN50:", "name the weights"),
        ("openclip/RN50:openai", "open_clip/RN50"),
        ("what/ever", "mini/, open_clip/, timm/, hf/, torchvision/"),
        ("open_clip/ViT-B32:openai", "ViT-B-32"),
        ("open_clip/RN50", "openai"),
        ("open_clip/RN50:openia", "openai"),
        ("open_clip/RN50:/no/such/file.safetensors", "/no/such/file.safetensors"),
        ("open_clip/local-dir:/no/such/folder", "open_clip_config.json"),
        ("timm/resnt18:random", "resnet18"),
        ("timm/resnet18.a1_in2k", "a1_in1k"),
        ("timm/resnet18:offline", "tf_efficientnet_lite0"),
        ("timm/local-dir:/no/such/folder", "config.json"),
        ("hf//no/such/folder", "/no/such/folder"),
        ("torchvision/resnet_50:random", "resnet50"),
        ("torchvision/resnet50:IMAGENET", "IMAGENET1K_V"),
        ("torchvision/resnet50", "IMAGENET1K_V2"),
        ("torchvision/resnet50:/no/such.pth", "/no/such.pth"),
        ("mini/trained", "mini/contrastive"),
        ("mini/contrastive:random", "mini/random"),
    ],
)
def test_wrong_names_get_one_line_with_the_way_out(name: str, hint: str) -> None:
    with pytest.raises(ClipvilError) as caught:
        registry.create_encoder(name)
    assert isinstance(caught.value, EncoderError)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)
    # What does not exist is wrong use; a file or folder that cannot be had is a failure.
    assert caught.value.exit_code == (1 if "/no/such" in name else 2)
    assert isinstance(caught.value, UsageError) == ("/no/such" not in name)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        *((name, None) for name in ("RN50", "what/ever", "open_clip/ViT-B32:openai", "open_clip/RN50:openia")),
        *((name, None) for name in ("timm/resnt18:random", "timm/resnet18:offline", "timm/resnet18.a1_in2k")),
        *((name, None) for name in ("torchvision/resnet50", "torchvision/resnet50:NONE", "mini/trained")),
        ("mini/contrastive", "block"),
    ],
)
def test_names_are_checked_without_building_anything(name: str, layer: str | None) -> None:
    with pytest.raises(UsageError):
        registry.check_encoder(name, layer=layer)


@pytest.mark.parametrize(
    "name",
    [
        *("open_clip/RN50:openai", "open_clip/local-dir:/a/b", "timm/vit_base_patch16_clip_224.openai", "hf/a/b"),
        *("timm/tf_efficientnet_lite0:offline", "torchvision/resnet50:DEFAULT", "mini/random"),
    ],
)
def test_right_names_pass_and_nothing_is_downloaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    registry.check_encoder(name, layer="last")


@pytest.mark.parametrize("layer", ["nothing", "stage:99", "block:1", "last+norm", "last+proj"])
def test_a_layer_that_a_network_lacks_is_wrong_use(layer: str) -> None:
    with pytest.raises(UsageError):
        registry.create_encoder("mini/contrastive", layer=layer)


@pytest.mark.parametrize("choice", [{"positions": "none"}, {"channels": "GBR"}])
def test_unknown_choices_are_refused(choice: dict[str, str]) -> None:
    with pytest.raises(EncoderError, match="is unknown"):
        registry.create_encoder("timm/test_vit:random", **choice)  # type: ignore[arg-type]


def test_listing_matches_globs_and_parts_of_names() -> None:
    names = [info.name for info in registry.list_encoders("open_clip/RN50*:openai")]
    assert "open_clip/RN50:openai" in names
    assert "open_clip/RN50x64:openai" in names
    assert all(name.startswith("open_clip/RN50") and name.endswith(":openai") for name in names)
    anywhere = [info.name for info in registry.list_encoders("tf_efficientnet_lite0")]
    assert "timm/tf_efficientnet_lite0:offline" in anywhere
    assert registry.list_encoders("no such thing") == []


def test_everything_listed_is_unique_and_of_four_libraries() -> None:
    found = registry.list_encoders()
    names = [info.name for info in found]
    assert len(set(names)) == len(names) > 1500
    assert {info.library for info in found} == {"mini", "open_clip", "timm", "torchvision"}
    assert {info.weights for info in found} == {"packaged", "downloads", "untrained"}
    for name in ("timm/vit_base_patch16_clip_224.openai", "torchvision/resnet50:IMAGENET1K_V2", "mini/contrastive"):
        assert name in names


def test_listing_the_mini_encoders_loads_no_torch() -> None:
    code = (
        "import sys; from clipvil.encoders.registry import list_encoders as l; "
        "print([i.name for i in l('mini/*')]); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mini/contrastive" in done.stdout


@pytest.fixture
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "scratch_adapter.py").write_text(
        "from clipvil.encoders.info import EncoderInfo\n"
        "def create(request):\n    return ('built', request.model, request.weights, request.layer)\n"
        "def names():\n    yield EncoderInfo('mine/tiny:v1', 'mine', 'packaged')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_REGISTERED", {})
    yield
    sys.modules.pop("scratch_adapter", None)


@pytest.mark.usefixtures("_scratch")
def test_a_script_can_register_encoders() -> None:
    registry.register_encoder("mine", "scratch_adapter:create")
    assert registry.create_encoder("mine/tiny:v1", layer="last") == ("built", "tiny", "v1", "last")  # type: ignore[comparison-overlap]
    assert [info.name for info in registry.list_encoders("mine/*")] == ["mine/tiny:v1"]
    for prefix in ("timm", "", "a/b", "a:b"):
        with pytest.raises(EncoderError, match="prefix"):
            registry.register_encoder(prefix, "scratch_adapter:create")
    with pytest.raises(EncoderError, match="module:function"):
        registry.register_encoder("other", "scratch_adapter")


@pytest.mark.usefixtures("_scratch")
def test_a_package_can_register_encoders_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("theirs", "scratch_adapter:create", "clipvil.encoders"),
        EntryPoint("broken", "scratch_adapter:absent", "clipvil.encoders"),
        EntryPoint("timm", "scratch_adapter:create", "clipvil.encoders"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])
    assert registry.create_encoder("theirs/x") == ("built", "x", None, None)  # type: ignore[comparison-overlap]
    with pytest.raises(EncoderError, match="scratch_adapter:absent"):
        registry.create_encoder("broken/x")
    with pytest.raises(EncoderError, match="timm has no model"):  # a package cannot replace a library
        registry.create_encoder("timm/no_such_model:random")


def test_public_names_resolve() -> None:
    assert clipvil.create_encoder is registry.create_encoder
    assert clipvil.list_encoders is registry.list_encoders
