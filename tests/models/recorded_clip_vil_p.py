"""The recorded CLIP-ViL_p: its state dicts through `convert`, as a model with its trunk."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

from clipvil.convert.clip_vil_p import ClipVilPSource
from clipvil.convert.clip_vil_p_encoder import write_encoder
from clipvil.convert.clip_vil_p_folder import Released, take
from clipvil.encoders.registry import create_encoder
from clipvil.models.grid_trunk import GridTrunk
from clipvil.models.picture_model import PictureModel
from tests.shared import shared

FOLDER = "clipvil_p"
PRETRAIN_CASES = ("landscape", "portrait", "extra_short_segments", "extra_subsampled")
PIXELS = {"extra_short_segments": "landscape", "extra_subsampled": "portrait"}
"""Which pixels a case reads, where it is not called after them."""


@cache
def recorded(name: str) -> dict[str, Tensor]:
    """The tensors of one file of the fixture."""
    return load_file(shared("fixtures", FOLDER, f"{name}.safetensors"))


def state(which: str) -> dict[str, Tensor]:
    """`pretrain` or `vqa`: the state dict without its leading `module.`."""
    return {key.removeprefix("module."): tensor for key, tensor in recorded(f"{which}_state").items()}


def released(which: str, **options: object) -> Released:
    """The state dict, translated."""
    return take(state(which), {"heads": 4, **options})


def with_trunk(which: str, *, norm: str = "frozen", checkpointing: bool = False) -> tuple[PictureModel, ClipVilPSource]:
    """The recorded model with its own encoder as trunk, as training has it, and what gives its parameters their

    published names.
    """
    found = released(which)
    with TemporaryDirectory() as folder:
        encoder = create_encoder(write_encoder(Path(folder), found.sizes, found.encoder))
    trunk = GridTrunk(encoder, norm=norm, checkpointing=checkpointing)  # type: ignore[arg-type]
    return PictureModel(trunk, found.model(), encoder.preprocess), found.kind


def published_name(kind: ClipVilPSource, name: str) -> str:
    """What the original calls a parameter or buffer of the model with its trunk."""
    if name.startswith("trunk."):
        return f"module.{kind.body}encoder.visual_model." + name.removeprefix("trunk.module.")
    return "module." + kind.source_name(name.removeprefix("head."))


def case(file: str, name: str) -> dict[str, Tensor]:
    """Tensors of one recorded case."""
    return {key.partition("/")[2]: tensor for key, tensor in recorded(file).items() if key.startswith(name + "/")}


def off(model: torch.nn.Module) -> None:
    """Switch every dropout off, training mode or not."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
