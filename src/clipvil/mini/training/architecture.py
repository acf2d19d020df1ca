"""The one architecture of the three miniature encoders, and the open_clip folder that holds it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipvil.files import atomic_write, atomic_write_json
from clipvil.mini.training.vocabulary import CONTEXT, END, PAD, WordTable, write_tokenizer

IMAGE_SIZE = 128
EMBED_DIM = 128
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
WEIGHTS_FILE = "open_clip_model.safetensors"


def model_config() -> dict[str, Any]:
    """The `model_cfg` of open_clip: a ModifiedResNet with 512 grid channels at stride 32, and a small text tower."""
    return {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {"image_size": IMAGE_SIZE, "layers": [1, 1, 2, 2], "width": 16, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(WordTable()),
            "hf_tokenizer_name": "clipvil-mini",
            "width": 128,
            "heads": 4,
            "layers": 2,
            "pool_type": "eos",
            "eos_id": END,
            "pad_id": PAD,
        },
    }


def build() -> nn.Module:
    """The model with open_clip's own random initialisation, drawn from torch's current generator."""
    from open_clip.model import CLIP

    model: nn.Module = CLIP(**model_config())
    return model


def encode_picture(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Grid (B,512,h,w) and pooled vector (B,`EMBED_DIM`) of normalised pixels (B,3,H,W) with sides divisible by 32."""
    visual: Any = model.visual
    x = visual.stem(pixels)
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = stage(x)
    table = visual.attnpool.positional_embedding
    side, height, width = IMAGE_SIZE // 32, x.shape[2], x.shape[3]
    if (height, width) != (side, side):
        cells = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        cells = F.adaptive_avg_pool2d(cells, (height, width)).flatten(2).squeeze(0).T
        table = torch.cat([table[:1], cells])
    pooled = torch.func.functional_call(visual.attnpool, {"positional_embedding": table}, (x,))
    return x, pooled


def encode_text(model: nn.Module, tokens: Tensor) -> Tensor:
    """Text vectors (B,`EMBED_DIM`) of tokens (B,T); T may be shorter than the context, which saves the padding."""
    tower: Any = model
    length = tokens.shape[1]
    x = tower.token_embedding(tokens) + tower.positional_embedding[:length]
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    x = tower.ln_final(x)
    ends = (tokens == END).int().argmax(dim=-1)
    result: Tensor = x[torch.arange(len(x)), ends] @ tower.text_projection
    return result


def encode_texts(model: nn.Module, tokens: Tensor, parts: int = 4) -> Tensor:
    """As `encode_text`, for padded tokens (B,T); texts of like length go together, which saves most of the padding."""
    lengths = (tokens != PAD).sum(dim=1)
    order = lengths.argsort(stable=True)
    vectors = [encode_text(model, tokens[rows, : int(lengths[rows[-1]])]) for rows in order.chunk(parts)]
    return torch.cat(vectors)[order.argsort()]


def normalise(pictures: Tensor) -> Tensor:
    """uint8 (B,H,W,3) to normalised float32 (B,3,H,W), which is channels_last in memory as it comes."""
    x = pictures.permute(0, 3, 1, 2).float().div_(255)
    return x.sub_(torch.tensor(MEAN).view(1, 3, 1, 1)).div_(torch.tensor(STD).view(1, 3, 1, 1))


def write_config(folder: Path) -> None:
    """Write `open_clip_config.json` and the tokenizer files, all that `local-dir:` needs beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "size": [IMAGE_SIZE, IMAGE_SIZE],
        "mode": "RGB",
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    atomic_write_json(folder / "open_clip_config.json", {"model_cfg": model_config(), "preprocess_cfg": preprocess})
    write_tokenizer(folder)


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> str:
    """Write the weights as safetensors, whole or not at all; returns their sha256.

    Matrices are stored as float16 (half the bytes; every loader copies them into float32 parameters). Vectors stay
    float32: a running variance below 6e-8 would become zero in float16 and the layer would divide by almost nothing.
    """
    from safetensors.torch import save

    small = {
        name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous().clone()
        for name, value in state.items()
    }
    data = io.BytesIO(save(small)).getvalue()
    with atomic_write(folder / WEIGHTS_FILE) as stream:
        stream.write(data)
    return hashlib.sha256(data).hexdigest()
