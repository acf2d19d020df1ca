"""The ResNet inside a CLIP-ViL_p checkpoint as an encoder of its own: a folder in open_clip's format.

CLIP-ViL_p trains its encoder, so a released checkpoint needs its own and not the published CLIP weights. The attention
pool is noise there (the released code ran BERT's initialiser over it) and is written as zeros: the grid is what counts,
and the pooled vector says nothing, visibly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipvil.convert.base import Conversion
from clipvil.errors import CheckpointError
from clipvil.files import atomic_write

POOL = "attnpool."
NOISE = "attention pooling, overwritten with noise by the original and never run"
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_KNOWN = {(64, (3, 4, 6, 3)): "RN50", (64, (3, 4, 23, 3)): "RN101", (80, (4, 6, 10, 6)): "RN50x4"}


@dataclass(frozen=True)
class ResNetSizes:
    """What the shapes of the weights say of the ResNet."""

    width: int
    layers: tuple[int, int, int, int]
    image_size: int
    embed_dim: int

    @property
    def title(self) -> str:
        """CLIP's name for it, or its sizes."""
        return _KNOWN.get((self.width, self.layers), f"ModifiedResNet of width {self.width}, blocks {self.layers}")

    def config(self) -> dict[str, Any]:
        """open_clip_config.json. Bilinear, because the pictures it was trained on were resized so."""
        vision = {"image_size": self.image_size, "layers": list(self.layers), "width": self.width, "patch_size": None}
        text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
        return {
            "model_cfg": {"embed_dim": self.embed_dim, "vision_cfg": vision, "text_cfg": text},
            "preprocess_cfg": {"mean": list(_MEAN), "std": list(_STD), "interpolation": "bilinear"},
        }


def sizes(visual: Mapping[str, Tensor]) -> ResNetSizes:
    """Read from the shapes. Raises CheckpointError for a trunk that is no ResNet of CLIP."""
    if "conv3.weight" not in visual or "layer4.0.conv1.weight" not in visual:
        raise CheckpointError(
            "its encoder is no ResNet of CLIP; the original's ViTs were destroyed by its initialisation and have no "
            "positions, so they are not converted"
        )
    counts = [0, 0, 0, 0]
    for key in visual:
        if match := re.match(r"layer([1-4])\.(\d+)\.", key):
            counts[int(match[1]) - 1] = max(counts[int(match[1]) - 1], int(match[2]) + 1)
    first, second, third, fourth = counts
    width = visual["conv3.weight"].shape[0]
    table, output = visual.get(POOL + "positional_embedding"), visual.get(POOL + "c_proj.bias")
    side = 7 if table is None else round((table.shape[0] - 1) ** 0.5)
    return ResNetSizes(
        width, (first, second, third, fourth), 32 * side, 1024 if output is None else int(output.shape[0])
    )


def take_encoder(visual: Mapping[str, Tensor], prefix: str, out: Conversion) -> tuple[ResNetSizes, dict[str, Tensor]]:
    """The encoder's weights under open_clip's names; every key is entered into the account `out`.

    `visual` are the keys below `prefix`. Raises CheckpointError as `sizes`.
    """
    from open_clip.modified_resnet import ModifiedResNet

    found = sizes(visual)
    with torch.device("meta"):
        network = ModifiedResNet(
            list(found.layers), found.embed_dim, found.width // 2, image_size=found.image_size, width=found.width
        )
    state: dict[str, Tensor] = {}
    for name, own in network.state_dict().items():
        key, theirs = prefix + name, visual.get(name)
        if name.startswith(POOL):
            state["visual." + name] = torch.zeros(own.shape)
            if theirs is not None:
                out.dropped[key] = NOISE
        elif theirs is None:
            if own.is_floating_point():  # counters of BatchNorm have no effect
                out.missing[key] = "encoder: visual." + name
            else:
                state["visual." + name] = torch.zeros(own.shape, dtype=own.dtype)
        elif theirs.shape != own.shape or theirs.is_floating_point() != own.is_floating_point():
            out.misshapen[key] = f"is {theirs.dtype} {tuple(theirs.shape)}, not {tuple(own.shape)}"
        elif not torch.isfinite(theirs).all():
            out.misshapen[key] = "holds values that are not finite numbers"
        else:
            out.used[key] = "encoder: visual." + name
            kind = torch.float32 if own.is_floating_point() else own.dtype
            state["visual." + name] = theirs.detach().to("cpu", kind).contiguous().clone()
    own_names = network.state_dict()
    out.unknown += [prefix + name for name in visual if name not in own_names]
    return found, state


def write_encoder(folder: Path, found: ResNetSizes, state: Mapping[str, Tensor]) -> str:
    """Write the folder; returns the name that `create_encoder` builds it by."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "open_clip_model.safetensors") as stream:
        stream.write(save(dict(state)))
    with atomic_write(folder / "open_clip_config.json") as stream:
        stream.write((json.dumps(found.config(), indent=2) + "\n").encode())
    return f"open_clip/local-dir:{folder.resolve()}"
