"""Small encoders of every adapter, written as files or untrained by name: what the contract tests run over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

TEXT = {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
RESNET = {"embed_dim": 24, "vision_cfg": {"image_size": 128, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}}
VIT = {"embed_dim": 24, "vision_cfg": {"image_size": 96, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16}}


def jitter(module: nn.Module, seed: int = 1) -> None:
    """Give constant parameters (norm scales, biases, zero-initialised branches) values, so that no part is inert."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1 and parameter.std() < 1e-6:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2 + 0.2)


def write_open_clip(folder: Path, config: dict[str, Any], *, quick_gelu: bool = False, seed: int = 0) -> Path:
    """A folder in open_clip's own format: configuration and safetensors of the whole CLIP model."""
    folder.mkdir(parents=True, exist_ok=True)
    model_config = {**config, "text_cfg": TEXT, "quick_gelu": quick_gelu}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**model_config)
    jitter(model)
    about = {"model_cfg": model_config, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(about), encoding="utf-8")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def write_hf(folder: Path, family: str) -> Path:
    """A folder as `save_pretrained` writes it, with its image processor."""
    import transformers

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    vit = {**shape, "image_size": 64, "patch_size": 16}
    dino = {key: value for key, value in vit.items() if key != "intermediate_size"}
    model: Any
    processor: Any = transformers.ViTImageProcessor()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "clip":
            model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**vit, projection_dim=24))
            processor = transformers.CLIPImageProcessor()
        elif family == "siglip":
            model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**vit))
            processor = transformers.SiglipImageProcessor()
        elif family == "dinov2":
            model = transformers.Dinov2Model(transformers.Dinov2Config(**dino))
        elif family == "vit":
            model = transformers.ViTModel(transformers.ViTConfig(**vit))
        else:
            sizes = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
            model = transformers.ResNetModel(sizes)
    jitter(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def names(root: Path) -> dict[str, str]:
    """Short id -> encoder name; folders are written below `root`."""
    return {
        "open_clip-resnet": f"open_clip/local-dir:{write_open_clip(root / 'resnet', RESNET)}",
        "open_clip-vit": f"open_clip/local-dir:{write_open_clip(root / 'vit', VIT)}",
        "open_clip-quickgelu": f"open_clip/local-dir:{write_open_clip(root / 'quick', VIT, quick_gelu=True)}",
        "timm-vit": "timm/test_vit:random",
        "timm-resnet": "timm/test_resnet:random",
        "timm-efficientnet": "timm/test_efficientnet:random",
        "timm-convnext": "timm/test_convnext:random",
        "hf-clip": f"hf/{write_hf(root / 'hf-clip', 'clip')}",
        "hf-siglip": f"hf/{write_hf(root / 'hf-siglip', 'siglip')}",
        "hf-dinov2": f"hf/{write_hf(root / 'hf-dinov2', 'dinov2')}",
        "hf-vit": f"hf/{write_hf(root / 'hf-vit', 'vit')}",
        "hf-resnet": f"hf/{write_hf(root / 'hf-resnet', 'resnet')}",
        "torchvision-resnet": "torchvision/resnet18:random",
        "torchvision-mobilenet": "torchvision/mobilenet_v3_small:random",
    }


IDS = (
    *("open_clip-resnet", "open_clip-vit", "open_clip-quickgelu"),
    *("timm-vit", "timm-resnet", "timm-efficientnet", "timm-convnext"),
    *("hf-clip", "hf-siglip", "hf-dinov2", "hf-vit", "hf-resnet"),
    *("torchvision-resnet", "torchvision-mobilenet"),
)
TOKENS = ("open_clip-vit", "open_clip-quickgelu", "timm-vit", "hf-clip", "hf-siglip", "hf-dinov2", "hf-vit")
"""Those with a learned table of positions over patch tokens."""
