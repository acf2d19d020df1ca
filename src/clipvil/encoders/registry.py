"""Encoders by name: a lazy table of libraries, open to other packages and to scripts.

Names read `library/model:weights`: `open_clip/RN50:openai`, `timm/vit_base_patch16_clip_224.openai`,
`hf/google/siglip-base-patch16-224`, `torchvision/resnet50:IMAGENET1K_V2`, `mini/contrastive`. Weights may be a local
file or folder everywhere, `:random` asks for untrained ones (seed 0, with a warning), and nothing is downloaded unless
a name asks for published weights.

Layers (`--layer`) name the tap the grid is read from:

    last        the last block before the final norm (ViTs), or the final map before pooling (convolutional networks)
    block:K     after transformer block K, counted from 0, or from the end: block:-2 is the last but one
    stage:K     the K-th map of a convolutional network; for ResNets 0 is the stem, stage:3 is `layer3`
    +norm       after it, for tokens: the network's final norm
    +norm+proj  and its projection into the joint space of pictures and texts

Defaults: CLIP towers of every library `last`, because that is what CLIP-ViL and OpenAI-CLIP-Feature stored, the joint
space being trained for the class token alone; other token networks (SigLIP, DINO, supervised ViTs) `last+norm`, which
is what their libraries hand out as patch tokens; convolutional networks `last`. `pooled` is always the model's own
embedding: CLIP's projected vector, SigLIP's attention pooling, the input of a supervised classifier.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from typing import Any, Literal, cast

from clipvil.encoders.base import Encoder
from clipvil.encoders.info import EncoderInfo
from clipvil.encoders.layers import Layer
from clipvil.encoders.request import EncoderRequest
from clipvil.errors import EncoderError, EncoderNameError

# Prefix -> "module:function" that takes an EncoderRequest and returns an Encoder. Where the module also has a function
# `names()`, it yields EncoderInfo for the table; `check(request)` raises EncoderNameError for what does not exist.
_LIBRARIES: dict[str, str] = {
    "mini": "clipvil.encoders.mini:create",
    "open_clip": "clipvil.encoders.open_clip:create",
    "timm": "clipvil.encoders.timm:create",
    "hf": "clipvil.encoders.huggingface:create",
    "torchvision": "clipvil.encoders.torchvision:create",
}
_OPEN = ("hf",)
"""Libraries whose names are an open set: not listed, and not imported for a listing."""
_VISUAL_ALONE = ("timm", "torchvision")
"""Libraries of visual towers, whose encoders have no text side."""
_REGISTERED: dict[str, str] = {}
_GROUP = "clipvil.encoders"


def create_encoder(
    name: str,
    *,
    layer: str | None = None,
    positions: Literal["resized", "zero"] = "resized",
    channels: Literal["RGB", "BGR"] = "RGB",
) -> Encoder:
    """Build the encoder called `name` (see the module's text for names and layers), frozen, in float32, on the CPU.

    `positions="zero"` sets learned position embeddings to zero and `channels="BGR"` swaps the colour planes: two
    published mistakes, kept selectable so that what they cost can be measured.
    Raises EncoderNameError for an unknown name (with the nearest known ones) or a layer the network lacks, and
    EncoderError for weights that cannot be had or do not fit.
    """
    request = EncoderRequest.parse(name, layer=layer, positions=positions, channels=channels)
    create = cast("Callable[[EncoderRequest], Encoder]", _resolve(request.library, _target(request)))
    return create(request)


def check_encoder(name: str, *, layer: str | None = None) -> None:
    """Refuse what `create_encoder` would refuse by name alone: nothing is built, read or downloaded.

    Raises EncoderNameError for an unknown library, model or tag and a layer that is not understood. Whether the network
    has that layer, and whether its weights can be had, only building it tells.
    """
    request = EncoderRequest.parse(name, layer=layer)
    if layer:
        Layer.parse(layer)
    target = _target(request)
    _resolve(request.library, target)
    module = importlib.import_module(target.partition(":")[0])
    check = cast("Callable[[EncoderRequest], object] | None", getattr(module, "check", None))
    if check is not None:
        check(request)


def _target(request: EncoderRequest) -> str:
    """The "module:function" of a request's library."""
    libraries = _table()
    if request.library not in libraries:
        near = get_close_matches(request.library, libraries, n=2, cutoff=0.5)
        known = ", ".join(f"{prefix}/" for prefix in libraries)
        hint = f"did you mean {near[0]}/{request.model}?" if near else f"names start with {known}"
        raise EncoderNameError(f"no encoder library '{request.library}' (in '{request.name}'); {hint}")
    return libraries[request.library]


def list_encoders(pattern: str = "*") -> list[EncoderInfo]:
    """Every encoder whose name matches the glob, in the order of the libraries; no model is built.

    Only libraries whose prefix can match are imported, so `mini/*` answers at once. A pattern without `*`, `?` or `[`
    matches anywhere in the name. Names of the Hugging Face hub and local files are open sets and not listed.
    """
    glob = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    literal = glob.split("*")[0].split("?")[0].split("[")[0]
    found: list[EncoderInfo] = []
    for prefix, target in _table().items():
        head = f"{prefix}/"
        if not (head.startswith(literal) or literal.startswith(head)) or prefix in _OPEN:
            continue
        module = importlib.import_module(target.partition(":")[0])
        listing = cast("Callable[[], Iterable[EncoderInfo]] | None", getattr(module, "names", None))
        found += [info for info in (listing() if listing else ()) if fnmatchcase(info.name, glob)]
    return found


def may_have_text(name: str) -> bool:
    """Whether an encoder of that name can have a text side, as far as the name tells; nothing is built."""
    library, slash, model = name.partition("/")
    if library == "mini":
        from clipvil.encoders.mini import WITH_TEXT

        return model == WITH_TEXT
    return bool(slash) and ":" not in library and library not in _VISUAL_ALONE


def nearest(name: str, count: int = 3) -> list[str]:
    """The listed names most like `name`, best first."""
    return get_close_matches(name, [info.name for info in list_encoders()], n=count, cutoff=0.5)


def register_encoder(prefix: str, target: str) -> None:
    """Let names `prefix/…` be built by `target` = "module:function", a function from EncoderRequest to Encoder.

    For scripts; a package does the same with an entry point of the group `clipvil.encoders`. The module is imported
    when a name first asks for it. Raises EncoderError if the prefix belongs to the library itself or is malformed.
    """
    if prefix in _LIBRARIES or not prefix or "/" in prefix or ":" in prefix:
        raise EncoderError(f"encoder prefix '{prefix}' is taken or malformed; choose a plain new word")
    if not all(target.partition(":")):
        raise EncoderError(f"encoder target '{target}' must read module:function")
    _REGISTERED[prefix] = target


def _table() -> dict[str, str]:
    """Own libraries first: neither a script nor a package can silently replace them."""
    plugged = {point.name: point.value for point in entry_points(group=_GROUP)}
    return {**plugged, **_REGISTERED, **_LIBRARIES}


def _resolve(prefix: str, target: str) -> Any:
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as problem:
        raise EncoderError(f"the encoders '{prefix}/' cannot be loaded from {target} ({problem})") from problem
