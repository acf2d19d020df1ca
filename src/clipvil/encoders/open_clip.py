"""CLIP towers through open_clip: by tag, from a local file, from a folder in open_clip's own format, or untrained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
from torch import nn

from clipvil.encoders.base import Interpolation, Preprocess
from clipvil.encoders.clip_resnet import ClipResNetTower
from clipvil.encoders.clip_vit import ClipVitTower
from clipvil.encoders.info import EncoderInfo
from clipvil.encoders.layers import Layer
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.open_clip_text import create_text
from clipvil.encoders.positions import zero_tables
from clipvil.encoders.quickgelu import guard_local_file, has_quickgelu
from clipvil.encoders.request import EncoderRequest
from clipvil.encoders.timm_tower import TimmTower, make_dynamic
from clipvil.encoders.weights import (
    CLIP_CACHE,
    HUB_CACHE,
    downloading,
    find_weights,
    load_strict,
    looks_like_path,
    read_state_dict,
    untrained,
)
from clipvil.errors import EncoderError, EncoderNameError

# Most tasks use the visual part alone, so the text part is built as small as open_clip allows: no download of a
# language model's configuration, and half the memory and time. `text()` builds the true one from the same file.
_TINY_TEXT = {"context_length": 1, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}
_POSITION_NAMES = ("positional_embedding", "pos_embed")


@dataclass(frozen=True)
class _Source:
    """Where the weights come from (None: untrained), the name open_clip knows the architecture by, and its configs."""

    architecture: str
    model: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path | None
    quickgelu: bool


def create(request: EncoderRequest) -> ModuleEncoder:
    """`open_clip/RN50:openai`, `:random`, `:/file.safetensors`, `open_clip/local-dir:/folder`, `open_clip/hf-hub:o/n`.

    Raises EncoderNameError for unknown models, tags or layers, EncoderError for unreachable or unfitting weights.
    """
    source = _source(request)
    visual: Any = _build(request, source)
    preprocess = _preprocess(source, visual, request)
    layer = Layer.parse(request.layer or "last")
    tower: ClipResNetTower | ClipVitTower | TimmTower
    if isinstance(visual, open_clip.modified_resnet.ModifiedResNet):
        tower = ClipResNetTower(visual, layer, name=request.name)
    elif isinstance(visual, open_clip.transformer.VisionTransformer):
        tower = ClipVitTower(visual, layer, name=request.name)
    else:
        make_dynamic(visual.trunk)
        tower = TimmTower(visual.trunk, layer, name=request.name, size=preprocess.size, head=visual.head, projects=True)
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
        facts={"quickgelu": str(has_quickgelu(visual))},
        text=partial(
            create_text,
            request.name,
            architecture=source.architecture,
            model=source.model,
            weights=source.weights,
            quickgelu=source.quickgelu,
        ),
    )


def names() -> Iterator[EncoderInfo]:
    """Every architecture with every tag of published weights."""
    for model, tag in open_clip.list_pretrained():
        yield EncoderInfo(f"open_clip/{model}:{tag}", "open_clip", "downloads")


def check(request: EncoderRequest) -> tuple[dict[str, Any], str]:
    """The configuration of the model, and the weights asked for. Raises EncoderNameError where there is no such thing.

    Folders and hub repositories are looked at when they are opened.
    """
    model, weights = request.model, request.weights
    if request.schema is not None:
        return {}, weights or ""
    config = open_clip.get_model_config(model)
    if config is None:
        near = " or ".join(get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.4))
        raise EncoderNameError(f"open_clip has no model '{model}'; did you mean {near or 'another library'}?")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights is None:
        which = f"{model}:TAG with {_some(tags)}, :random, or :/a/file"
        raise EncoderNameError(f"{request.name}: say which weights: {which}")
    if not (weights == "random" or open_clip.is_pretrained_cfg(model, weights) or looks_like_path(weights)):
        near = _some(get_close_matches(weights, tags, n=3, cutoff=0.4) or tags)
        raise EncoderNameError(f"{request.name}: {model} has no weights '{weights}'; use {near}, or :/a/file")
    return config, weights


def _source(request: EncoderRequest) -> _Source:
    if request.schema is not None:
        return _folder(request) if request.schema[0] == "local-dir" else _hub(request)
    config, weights = check(request)
    model, quickgelu = request.model, bool(config.get("quick_gelu", False))
    if weights == "random":
        return _Source(model, config, {}, None, quickgelu)
    if open_clip.is_pretrained_cfg(model, weights):
        entry = open_clip.get_pretrained_cfg(model, weights)
        cache = HUB_CACHE if entry.get("hf_hub") else CLIP_CACHE
        with downloading("the weights", _where(entry), name=request.name, cache=cache):
            path = Path(open_clip.download_pretrained(entry))
        # Weights trained with QuickGELU give other outputs under GELU, silently: the tag decides, not the model name.
        return _Source(model, config, entry, path, quickgelu or bool(entry.get("quick_gelu", False)))
    path = find_weights(weights, name=request.name)
    guard_local_file(path, model=model, quickgelu=quickgelu, name=request.name)
    return _Source(model, config, {}, path, quickgelu)


def _folder(request: EncoderRequest) -> _Source:
    folder = Path(request.model.partition(":")[2]).expanduser()
    path = folder / "open_clip_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model, preprocess = config["model_cfg"], config.get("preprocess_cfg", {})
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise EncoderError(
            f"{request.name}: {path} is not a readable open_clip configuration with a 'model_cfg' ({problem})"
        ) from problem
    weights = None if request.untrained else find_weights(folder, name=request.name)
    return _Source(f"local-dir:{folder}", model, preprocess, weights, bool(model.get("quick_gelu", False)))


def _hub(request: EncoderRequest) -> _Source:
    repository = request.model.partition(":")[2]
    with downloading("open_clip_config.json and weights", f"huggingface.co/{repository}", name=request.name):
        path = open_clip.pretrained.download_pretrained_from_hf(repository, filename="open_clip_config.json")
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        weights = None if request.untrained else Path(open_clip.pretrained.download_pretrained_from_hf(repository))
    model = config["model_cfg"]
    return _Source(request.model, model, config.get("preprocess_cfg", {}), weights, bool(model.get("quick_gelu")))


def _build(request: EncoderRequest, source: _Source) -> nn.Module:
    def build() -> Any:
        # The schema names would look for weights again; a registered architecture is only instantiated.
        settings = {k: v for k, v in source.model.items() if k not in ("text_cfg", "custom_text", "multimodal_cfg")}
        vision = {**settings.pop("vision_cfg"), "patch_dropout": 0.0, "timm_model_pretrained": False}
        settings["quick_gelu"] = source.quickgelu
        known = {"embed_dim", "quick_gelu", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"}
        settings = {k: v for k, v in settings.items() if k in known}
        return open_clip.CLIP(vision_cfg=vision, text_cfg=dict(_TINY_TEXT), **settings)

    if source.weights is None:
        with untrained(request.name):
            return build().visual
    model = build()
    state = open_clip.convert.convert_state_dict(model, read_state_dict(source.weights, name=request.name))
    if any(key.startswith("visual.") for key in state):
        state = {key[len("visual.") :]: value for key, value in state.items() if key.startswith("visual.")}
    load_strict(model.visual, state, name=request.name, where=source.weights)
    return model.visual


def _preprocess(source: _Source, visual: Any, request: EncoderRequest) -> Preprocess:
    default = open_clip.transform.PreprocessCfg()
    mean: tuple[float, ...] = tuple(source.preprocess.get("mean") or default.mean)
    std: tuple[float, ...] = tuple(source.preprocess.get("std") or default.std)
    interpolation: Interpolation = "bilinear" if source.preprocess.get("interpolation") == "bilinear" else "bicubic"
    size = visual.image_size
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    return Preprocess(
        (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), interpolation, (height, width), request.channels
    )


def _where(entry: dict[str, Any]) -> str:
    hub = entry.get("hf_hub")
    return f"huggingface.co/{hub}" if hub else str(entry.get("url", "nowhere"))


def _some(tags: list[str]) -> str:
    return ", ".join(tags[:8]) + (", …" if len(tags) > 8 else "") if tags else "no published tags"
