"""torchvision classifiers: ResNets and their kin, ConvNeXt, EfficientNet, RegNet, Swin, ViT, VGG, DenseNet."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from torch import nn
from torchvision import models

from clipvil.encoders.base import Preprocess
from clipvil.encoders.info import EncoderInfo
from clipvil.encoders.layers import Layer
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.positions import zero_tables
from clipvil.encoders.request import EncoderRequest
from clipvil.encoders.torchvision_towers import StagesTower, TorchvisionVitTower
from clipvil.encoders.weights import (
    TORCH_CACHE,
    downloading,
    find_weights,
    load_strict,
    looks_like_path,
    read_state_dict,
    untrained,
)
from clipvil.errors import EncoderNameError

_FAMILIES = (
    *("resnet", "resnext", "wide_resnet", "convnext", "efficientnet", "regnet", "swin", "vit_", "vgg", "densenet"),
    *("mobilenet", "mnasnet"),
)


def create(request: EncoderRequest) -> ModuleEncoder:
    """`torchvision/resnet50:IMAGENET1K_V2` (or `:DEFAULT`, `:random`, `:/file`).

    Pooled is the input of the classifier. Without `layer`, ViTs give the normed tokens and all others the final map.
    Raises EncoderNameError for unknown networks, tags or layers, EncoderError for unreachable or unfitting weights.
    """
    entry, model = _model(request)
    layer = Layer.parse(request.layer or ("last+norm" if request.model.startswith("vit_") else "last"))
    tower = _tower(model, layer, request.name)
    if request.positions == "zero":
        zero_tables(tower, ("pos_embedding",), of=request.name)
    return ModuleEncoder(
        request.name,
        tower,
        preprocess=_preprocess(entry, request),
        layer=str(tower.layer),
        grid_channels=tower.grid_channels,
        pooled_channels=tower.pooled_channels,
        stride=tower.stride,
        positions=request.positions,
    )


def check(request: EncoderRequest) -> str:
    """The weights that are asked for. Raises EncoderNameError where there is no such network or tag."""
    known, weights = _known(), request.weights
    if request.model not in known:
        like = " or ".join(get_close_matches(request.model, known, n=3, cutoff=0.4))
        raise EncoderNameError(f"torchvision has no grid encoder '{request.model}'; did you mean {like or 'timm/'}?")
    published = [entry.name for entry in models.get_model_weights(request.model)]
    if weights is None:
        which = f"{', '.join(published)}, random, or a file after ':'"
        raise EncoderNameError(f"{request.name}: say which weights: {which}")
    if weights not in ("random", "DEFAULT", *published) and not looks_like_path(weights):
        near = ", ".join(get_close_matches(weights, published, n=2, cutoff=0.3) or published)
        raise EncoderNameError(f"{request.name}: no weights '{weights}'; use {near}, random, or a file")
    return weights


def names() -> Iterator[EncoderInfo]:
    """Every supported network with every published set of weights."""
    for name in _known():
        for entry in models.get_model_weights(name):
            yield EncoderInfo(f"torchvision/{name}:{entry.name}", "torchvision", "downloads")


def _known() -> list[str]:
    return [name for name in models.list_models(module=models) if name.startswith(_FAMILIES)]


def _model(request: EncoderRequest) -> tuple[Any, Any]:
    weights = check(request)
    published = {entry.name: entry for entry in models.get_model_weights(request.model)}
    default = models.get_model_weights(request.model).DEFAULT
    if weights == "random":
        with untrained(request.name):
            return default, models.get_model(request.model, weights=None)
    if weights == "DEFAULT" or weights in published:
        entry = published.get(weights, default)
        with downloading("the weights", entry.url, name=request.name, cache=TORCH_CACHE):
            state = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
        where: object = entry.url
    else:
        path = find_weights(weights, name=request.name)
        entry, state, where = default, read_state_dict(path, name=request.name), path
    # The picture size of some published weights is part of the network (ViT's position table).
    size = entry.meta.get("min_size", (0, 0))[0] if request.model.startswith("vit_") else 0
    model = models.get_model(request.model, weights=None, **({"image_size": size} if size else {}))
    load_strict(model, state, name=request.name, where=where)
    return entry, model


def _tower(model: Any, layer: Layer, name: str) -> StagesTower | TorchvisionVitTower:
    if isinstance(model, models.VisionTransformer):
        return TorchvisionVitTower(model, layer, name=name)
    if isinstance(model, models.ResNet):
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        stages = [stem, model.layer1, model.layer2, model.layer3, model.layer4]
        return StagesTower(stages, layer, name=name, finish=None)
    if isinstance(model, models.RegNet):
        return StagesTower([model.stem, *model.trunk_output.children()], layer, name=name, finish=None)
    if isinstance(model, models.SwinTransformer):
        return StagesTower(list(model.features), layer, name=name, finish=model.norm, channels_first=False)
    if isinstance(model, models.MNASNet):
        return StagesTower(list(model.layers), layer, name=name, finish=None)
    finish = nn.ReLU() if isinstance(model, models.DenseNet) else None  # its forward applies one before pooling
    return StagesTower(list(model.features.children()), layer, name=name, finish=finish)


def _preprocess(entry: Any, request: EncoderRequest) -> Preprocess:
    transform = entry.transforms()
    size = int(transform.crop_size[0])
    mean, std = transform.mean, transform.std
    return Preprocess(
        (float(mean[0]), float(mean[1]), float(mean[2])),
        (float(std[0]), float(std[1]), float(std[2])),
        "bicubic" if "bicubic" in str(transform.interpolation).lower() else "bilinear",
        (size, size),
        request.channels,
    )
