"""The encoders of the miniature world: two sets of weights that ship with the package, and their untrained trunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipvil.encoders.info import EncoderInfo
from clipvil.encoders.request import EncoderRequest
from clipvil.errors import ClipvilError, EncoderError, EncoderNameError

if TYPE_CHECKING:
    from clipvil.encoders.module_encoder import ModuleEncoder

_TRAINED = ("contrastive", "annotated")
WITH_TEXT = "contrastive"
"""The one whose text tower was trained."""


def create(request: EncoderRequest) -> ModuleEncoder:
    """`mini/contrastive`, `mini/annotated` and `mini/random` (the same trunk untrained, seed 0), through open_clip.

    Raises EncoderNameError for other names, EncoderError where the package's weights are missing.
    """
    check(request)
    random = request.model == "random"
    folder = _folder(request.model, request.name)
    inner = replace(request, model=f"local-dir:{folder}", weights="random" if random else None)
    from clipvil.encoders import open_clip  # here, so that listing these names needs no torch

    encoder = open_clip.create(inner)
    # The text towers in the other two folders were never trained: what they say would look like a result.
    return encoder if request.model == WITH_TEXT else encoder.without_text()


def check(request: EncoderRequest) -> None:
    """Raise EncoderNameError for a name that is none of the three."""
    if request.weights is not None or request.model not in (*_TRAINED, "random"):
        raise EncoderNameError(f"no encoder '{request.name}'; use mini/contrastive, mini/annotated or mini/random")


def names() -> Iterator[EncoderInfo]:
    """The three of them."""
    for name in _TRAINED:
        yield EncoderInfo(f"mini/{name}", "mini", "packaged")
    yield EncoderInfo("mini/random", "mini", "untrained")


def _folder(model: str, name: str) -> Path:
    try:
        from clipvil.mini import weights_folder

        folder = Path(weights_folder(model))
    except (ImportError, ClipvilError) as problem:
        raise EncoderError(f"{name}: the package holds no such weights ({problem}); run make mini-weights") from problem
    if not folder.is_dir():
        raise EncoderError(f"{name}: the package holds no weights at {folder}; run make mini-weights")
    return folder
