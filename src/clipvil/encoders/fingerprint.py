"""A hash of what a network computes: its weights, and the facts that the weights do not tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import nn


def fingerprint_of(module: nn.Module, about: Mapping[str, Any]) -> str:
    """16 hex digits: SHA-256 over the state dict (sorted names, float32 bytes) and `about` as JSON."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(memoryview(tensor.contiguous().reshape(-1).numpy()).cast("B"))
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()[:16]
