"""timm networks: CLIP, SigLIP, DINO and supervised ViTs, ResNets, ConvNeXts and the rest, by timm's own names."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import get_pretrained_cfg, is_model, list_models, list_pretrained

from clipvil.encoders import efficientnet_lite0
from clipvil.encoders.base import Preprocess
from clipvil.encoders.info import EncoderInfo
from clipvil.encoders.layers import Layer
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.positions import zero_tables
from clipvil.encoders.quickgelu import has_quickgelu
from clipvil.encoders.request import EncoderRequest
from clipvil.encoders.timm_tower import TimmTower, is_token_network
from clipvil.encoders.weights import downloading, find_weights, load_strict, read_state_dict, untrained
from clipvil.errors import EncoderError, EncoderNameError

_LOG = logging.getLogger("clipvil.encoders")
_OFFLINE = "tf_efficientnet_lite0"
_POSITION_NAMES = ("pos_embed",)
_FINE_TUNED = re.compile(r"ft_in\d+k")
_HEADS = ("head.fc", "head", "fc", "classifier", "head_dist")


def create(request: EncoderRequest) -> ModuleEncoder:
    """`timm/ARCHITECTURE.TAG` (downloads), `timm/ARCHITECTURE[.TAG]:random`, `:/file.safetensors`,
    `timm/local-dir:/folder`, `timm/hf-hub:owner/name`, and `timm/tf_efficientnet_lite0:offline`.

    Without `layer`, CLIP's towers give the last block before the final norm (see `ClipVitTower`) and all other token
    networks the normed tokens, as timm's own `forward_features` does.
    Raises EncoderNameError for unknown names and layers, EncoderError for unreachable or unfitting weights.
    """
    if request.weights == "offline":
        check(request)
        return _offline(request)
    architecture, tag = _names(request)
    trunk = _build(request, architecture, tag)
    if request.schema is not None:
        architecture, tag = str(trunk.pretrained_cfg["architecture"]), str(trunk.pretrained_cfg.get("tag") or "")
    return _encoder(request, trunk, clip=_is_clip(architecture, tag), projects=_projects(architecture, tag, trunk))


def names() -> Iterator[EncoderInfo]:
    """Every network with published weights, and the one whose weights come as a package."""
    yield EncoderInfo(f"timm/{_OFFLINE}:offline", "timm", "packaged")
    for name in list_pretrained():
        yield EncoderInfo(f"timm/{name}", "timm", "downloads")


def check(request: EncoderRequest) -> tuple[str, str]:
    """Architecture and tag that are asked for. Raises EncoderNameError where timm has no such thing.

    Folders and hub repositories are looked at when they are opened.
    """
    if request.weights == "offline" and request.model != _OFFLINE:
        raise EncoderNameError(
            f"{request.name}: only timm/{_OFFLINE} has packaged weights; name a tag, :random, or a file"
        )
    if request.schema is not None:
        return request.model, ""
    architecture, _, tag = request.model.partition(".")
    if not is_model(architecture):
        like = " or ".join(get_close_matches(architecture, list_models(), n=3, cutoff=0.4))
        raise EncoderNameError(f"timm has no model '{architecture}'; did you mean {like or 'another library'}?")
    tags = [name.partition(".")[2] for name in list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        near = get_close_matches(tag, tags, n=3, cutoff=0.3) or tags[:6]
        raise EncoderNameError(f"timm has no weights '{tag}' for {architecture}; use {', '.join(near) or ':random'}")
    if request.weights is None and not tags:
        raise EncoderNameError(f"timm has no published weights for {architecture}; use :random or :/a/file")
    return architecture, tag


def _names(request: EncoderRequest) -> tuple[str, str]:
    """The architecture that is to be built, and the tag of its weights."""
    architecture, tag = check(request)
    return _with_quickgelu(request, architecture, tag), tag


def _with_quickgelu(request: EncoderRequest, architecture: str, tag: str) -> str:
    """The architecture with the activation that the weights were trained with.

    timm lists some weights trained with QuickGELU both under a GELU network and under its `_clip_quickgelu_` sibling
    (timm issue 2031); the sibling is the right one.
    """
    sibling = architecture.replace("_clip_", "_clip_quickgelu_")
    if "quickgelu" in architecture or sibling == architecture or not tag:
        return architecture
    if f"{sibling}.{tag}" not in list_pretrained(f"{sibling}.*"):
        return architecture
    _LOG.warning("%s: these weights were trained with QuickGELU, so %s is built", request.name, sibling)
    return sibling


def _build(request: EncoderRequest, architecture: str, tag: str) -> Any:
    full = f"{architecture}.{tag}" if tag else architecture
    schema, place = request.schema or ("", "")
    if schema == "local-dir" and not (Path(place).expanduser() / "config.json").is_file():
        raise EncoderError(f"{request.name}: no config.json in {place}; save the folder as timm's push_to_hf_hub does")
    if request.weights is None:
        source = place if schema else f"huggingface.co/timm/{full}"
        with downloading("the weights", source, name=request.name):
            return _create(full, pretrained=True)
    if request.untrained:
        with untrained(request.name):
            return _create(full, pretrained=False)
    path = find_weights(request.weights, name=request.name)
    trunk = _create(full, pretrained=False)
    state = read_state_dict(path, name=request.name)
    # A file without its classifier is as good as one with it: only the features are read.
    missing = trunk.state_dict().keys() - state.keys()
    if missing and all(key.startswith(tuple(f"{head}." for head in _HEADS)) for key in missing):
        trunk.reset_classifier(0)
    load_strict(trunk, state, name=request.name, where=path)
    return trunk


def _create(name: str, *, pretrained: bool) -> Any:
    """timm.create_model, asking for any input size from the networks that know how (ViTs, EVA, Swin)."""
    try:
        return timm.create_model(name, pretrained=pretrained, dynamic_img_size=True)
    except TypeError as problem:
        if "dynamic_img_size" not in str(problem):
            raise
        return timm.create_model(name, pretrained=pretrained)


def _offline(request: EncoderRequest) -> ModuleEncoder:
    trunk = _create(_OFFLINE, pretrained=False)
    load_strict(trunk, efficientnet_lite0.state_for(trunk, name=request.name), name=request.name, where="the package")
    return _encoder(request, trunk, clip=False, projects=False, data=efficientnet_lite0.DATA)


def _encoder(
    request: EncoderRequest, trunk: Any, *, clip: bool, projects: bool, data: Mapping[str, Any] | None = None
) -> ModuleEncoder:
    layer = Layer.parse(request.layer or ("last+norm" if is_token_network(trunk) and not clip else "last"))
    if not projects:
        # A classifier that nothing reads would still be counted, kept in memory and hashed into the fingerprint.
        _drop_classifier(trunk)
    preprocess = _preprocess(data or resolve_model_data_config(trunk), request)
    tower = TimmTower(trunk, layer, name=request.name, size=preprocess.size, projects=projects)
    if request.positions == "zero":
        zero_tables(tower, _POSITION_NAMES, of=request.name)
    return ModuleEncoder(
        request.name,
        tower,
        preprocess=preprocess,
        layer=str(tower.layer),
        grid_channels=tower.grid_channels,
        pooled_channels=tower.pooled_channels,
        stride=tower.stride,
        positions=request.positions,
        facts={"quickgelu": str(has_quickgelu(trunk))},
    )


def _drop_classifier(trunk: Any) -> None:
    """Take the classifier off, and leave what stands before it: pooled is what `forward_head` gives it to read."""
    names = trunk.pretrained_cfg.get("classifier") or ()
    for name in (names,) if isinstance(names, str) else names:
        parent, _, last = str(name).rpartition(".")
        owner = trunk.get_submodule(parent)
        if isinstance(getattr(owner, last, None), torch.nn.Module):
            setattr(owner, last, torch.nn.Identity())


def _preprocess(config: Mapping[str, Any], request: EncoderRequest) -> Preprocess:
    mean, std = config["mean"], config["std"]
    return Preprocess(
        (float(mean[0]), float(mean[1]), float(mean[2])),
        (float(std[0]), float(std[1]), float(std[2])),
        "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        (int(config["input_size"][1]), int(config["input_size"][2])),
        request.channels,
    )


def _is_clip(architecture: str, tag: str) -> bool:
    return "clip" in architecture or "clip" in tag


def _projects(architecture: str, tag: str, trunk: Any) -> bool:
    """Whether the classifier of these weights is CLIP's projection: a CLIP tower that was not fine-tuned to classes."""
    if not _is_clip(architecture, tag) or int(trunk.num_classes) == 0:
        return False
    default = get_pretrained_cfg(architecture)
    return not _FINE_TUNED.search(tag or str(getattr(default, "tag", "")))
