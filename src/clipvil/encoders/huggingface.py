"""Vision towers through transformers: `hf/owner/name` from the hub, or `hf/FOLDER` as `save_pretrained` writes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import transformers

from clipvil.encoders.base import Interpolation, Preprocess
from clipvil.encoders.huggingface_text import create_text
from clipvil.encoders.huggingface_tower import HuggingFaceTower
from clipvil.encoders.module_encoder import ModuleEncoder
from clipvil.encoders.module_text import ModuleTextEncoder
from clipvil.encoders.positions import zero_tables
from clipvil.encoders.quickgelu import has_quickgelu
from clipvil.encoders.request import EncoderRequest
from clipvil.encoders.weights import HUB_CACHE, LOCAL_FOLDER, downloading, find_weights, read_state_dict, untrained
from clipvil.errors import EncoderError

# Two-tower checkpoints: the class that loads their visual half alone, with the embedding that the model was trained by.
_TWO_TOWERS = {"clip": "CLIPVisionModelWithProjection", "siglip": "SiglipVisionModel"}
# And the class of both halves, which the text side is taken from.
_WHOLE = {"clip": "CLIPModel", "siglip": "SiglipModel"}
_POSITION_NAMES = ("position_embedding.weight", "position_embeddings", "pos_embed")
_BILINEAR = (2, "bilinear")


def create(request: EncoderRequest) -> ModuleEncoder:
    """`hf/google/siglip-base-patch16-224`, `hf//a/folder`, either with `:random` or `:/weights.safetensors` after it.

    Without `layer`, CLIP gives `last`, other token models `last+norm`, maps `last`. Mean and std come from the
    preprocessor configuration beside the weights and are never guessed.
    Raises EncoderError for folders or repositories that cannot be read, weights that do not cover the model, and
    families without a grid.
    """
    place, local = check(request)
    source = place if local else f"huggingface.co/{place}"
    cache = LOCAL_FOLDER if local else HUB_CACHE
    with downloading("the configuration", source, name=request.name, cache=cache):
        config = transformers.AutoConfig.from_pretrained(place, local_files_only=local)
    with downloading("preprocessor_config.json (mean and std)", source, name=request.name, cache=cache):
        processor = transformers.AutoImageProcessor.from_pretrained(place, local_files_only=local)
    model = _model(request, config, place, local)
    preprocess = _preprocess(request, model.config, processor)
    tower = HuggingFaceTower(model.eval(), request.layer, size=preprocess.size, name=request.name)
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
        facts={"quickgelu": str(has_quickgelu(model))},
        text=partial(_text, request, config, place, local) if _family(config) in _WHOLE else None,
    )


def check(request: EncoderRequest) -> tuple[str, bool]:
    """The hub repository or folder, and whether it is a folder. Raises EncoderError for a folder that is not there."""
    path = Path(request.model).expanduser()
    if path.is_dir():
        return str(path), True
    if request.model.startswith(("/", ".", "~")) or request.model.count("/") > 1:
        raise EncoderError(f"{request.name}: no folder at {path}; check the path after hf/")
    return request.model, False


def _model(request: EncoderRequest, config: Any, place: str, local: bool) -> Any:
    family = _family(config)
    kind: Any = transformers.AutoModel
    if family in _TWO_TOWERS:
        kind = getattr(transformers, _TWO_TOWERS[family])
        config = getattr(config, "vision_config", config)
    elif hasattr(config, "vision_config"):
        raise EncoderError(f"{request.name}: two-tower family '{family}' is not supported; use open_clip/ or timm/")
    return _weighted(request, kind, config, place, local)


def _family(config: Any) -> str:
    return str(config.model_type).removesuffix("_vision_model")


def _text(request: EncoderRequest, config: Any, place: str, local: bool) -> ModuleTextEncoder:
    """The text side of the same weights."""
    if not hasattr(config, "text_config"):
        raise EncoderError(f"{request.name} is a visual half alone; use the checkpoint of the whole model")
    kind = getattr(transformers, _WHOLE[_family(config)])
    return create_text(request.name, _weighted(request, kind, config, place, local), place=place, local=local)


def _weighted(request: EncoderRequest, kind: Any, config: Any, place: str, local: bool) -> Any:
    """A model of the class `kind` with the weights that were asked for."""
    if request.untrained:
        with untrained(request.name):
            return _build(kind, config)
    if request.weights is not None:
        state = read_state_dict(find_weights(request.weights, name=request.name), name=request.name)
        return _load(request, kind, None, config=config, state_dict=state)
    cache = LOCAL_FOLDER if local else HUB_CACHE
    with downloading("the weights", place if local else f"huggingface.co/{place}", name=request.name, cache=cache):
        return _load(request, kind, place, config=config, local_files_only=local)


def _build(kind: Any, config: Any) -> Any:
    if kind is not transformers.AutoModel:
        return kind(config)
    try:
        return kind.from_config(config, add_pooling_layer=False)
    except TypeError:
        return kind.from_config(config)


def _load(request: EncoderRequest, kind: Any, place: str | None, **settings: Any) -> Any:
    """from_pretrained, but a tensor that the weights lack is an error and not a random number."""
    settings["output_loading_info"] = True
    with _quiet():
        try:
            # Some families would add a pooling layer that most checkpoints lack; the class token needs none.
            pooler = {"add_pooling_layer": False} if kind is transformers.AutoModel else {}
            model, info = kind.from_pretrained(place, **settings, **pooler)
        except TypeError:
            model, info = kind.from_pretrained(place, **settings)
    missing = sorted(info["missing_keys"])
    if missing:
        raise EncoderError(
            f"{request.name}: the weights lack {len(missing)} tensors of the model, {missing[0]} first; "
            "use a checkpoint of this very architecture"
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no report of tensors that were left out: what matters is raised by `_load`."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _preprocess(request: EncoderRequest, config: Any, processor: Any) -> Preprocess:
    mean = getattr(processor, "image_mean", None) or (0.0, 0.0, 0.0)
    std = getattr(processor, "image_std", None) or (1.0, 1.0, 1.0)
    if getattr(processor, "do_normalize", True) is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    resample: Any = getattr(processor, "resample", 3)
    resample = getattr(resample, "value", resample)
    interpolation: Interpolation = "bilinear" if resample in _BILINEAR else "bicubic"
    return Preprocess(
        (float(mean[0]), float(mean[1]), float(mean[2])),
        (float(std[0]), float(std[1]), float(std[2])),
        interpolation,
        _size(config, processor),
        request.channels,
    )


def _size(config: Any, processor: Any) -> tuple[int, int]:
    size: Any = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    if isinstance(size, (tuple, list)):
        return int(size[0]), int(size[1])
    for place in (getattr(processor, "crop_size", None), getattr(processor, "size", None)):
        if place and "height" in place and place["height"]:
            return int(place["height"]), int(place["width"])
        if place and "shortest_edge" in place and place["shortest_edge"]:
            return int(place["shortest_edge"]), int(place["shortest_edge"])
    return 224, 224
