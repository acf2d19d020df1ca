"""QuickGELU: the activation that OpenAI's CLIP was trained with, and that nothing in its weights tells.

Loaded under plain GELU the same weights run without a word and give other numbers (open_clip issue 771, timm issue
2031). A tag says which one it needs; for a local file only the name and the files beside it can.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from torch import nn

from clipvil.errors import EncoderError

_LOG = logging.getLogger("clipvil.encoders")


def has_quickgelu(module: nn.Module) -> bool:
    """Whether any activation in the module is x * sigmoid(1.702 x), under the names the libraries give it."""
    return any("quickgelu" in type(part).__name__.lower().replace("_", "") for part in module.modules())


def guard_local_file(path: Path, *, model: str, quickgelu: bool, name: str) -> None:
    """Refuse a local file that visibly was trained with QuickGELU for an architecture built with GELU.

    Evidence: a path that says `openai` or `quickgelu`, or `quick_gelu` in an open_clip_config.json beside the file.
    Without evidence, architectures that exist in both forms get a logged line that names the other.
    Raises EncoderError with the right model name.
    """
    import open_clip

    sibling = f"{model}-quickgelu"
    if quickgelu or sibling not in open_clip.list_models():
        return
    said = f"{path.parent.name}/{path.name}".lower()
    config = path.parent / "open_clip_config.json"
    told: bool | None = None
    if config.is_file():
        try:
            told = bool(json.loads(config.read_text(encoding="utf-8"))["model_cfg"].get("quick_gelu", False))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            told = None
    if told or (told is None and ("openai" in said or "quickgelu" in said)):
        raise EncoderError(
            f"{name}: {path} was trained with QuickGELU, which {model} does not have; use open_clip/{sibling}:{path}"
        )
    if told is None:
        _LOG.warning("%s: if these weights were trained with QuickGELU (OpenAI's were), name %s", name, sibling)
