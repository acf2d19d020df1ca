"""Reading the tensors of a released checkpoint: safetensors, or a torch file through weights_only, never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipvil.errors import CheckpointError

_WRAPPERS = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "model.")


@dataclass(frozen=True)
class CheckpointFile:
    """The tensors by their plain names, and what had to be taken off to get there."""

    tensors: Mapping[str, Tensor]
    wrapper: str = ""
    """The entry of the file that held the state dict; empty when the file is one itself."""
    beside: tuple[str, ...] = ()
    """Entries that stood beside it (optimiser, epoch) and are left behind."""
    prefix: str = ""
    """What every name began with."""


def read_checkpoint(path: str | Path) -> CheckpointFile:
    """The state dict of a .safetensors, .pth, .pt or .ckpt file; tensors of the file stay memory-mapped where they can.

    A wrapper (`{"model": ...}`, Lightning's `{"state_dict": ...}`) and prefixes that all names share ("model.",
    "module.") are taken off. A file of several networks, each with its own `state_dict` (EnvDrop's), gives their names
    in front of those of the tensors.

    Raises:
        CheckpointError: no such file, a damaged one, one that holds more than tensors and plain values, or no state
            dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    value = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    networks = _networks(value)
    if networks is not None:
        return networks
    wrapper = next((name for name in _WRAPPERS if isinstance(value.get(name), Mapping)), "")
    beside = tuple(str(key) for key in value if key != wrapper) if wrapper else ()
    state = value[wrapper] if wrapper else value
    odd = next((key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))), None)
    if odd is not None or not state:
        what = f"'{odd}' is no tensor" if odd is not None else "it is empty"
        raise CheckpointError(f"{path}: holds no state dict ({what}); save model.state_dict() alone")
    prefix = ""
    while found := next((p for p in _PREFIXES if all(key.startswith(prefix + p) for key in state)), None):
        prefix += found
    return CheckpointFile({key[len(prefix) :]: tensor for key, tensor in state.items()}, wrapper, beside, prefix)


def _networks(value: Mapping[str, Any]) -> CheckpointFile | None:
    """The tensors of a file that holds {network: {"state_dict": ..., "optimizer": ..., ...}} and nothing else."""
    parts = {
        key: part["state_dict"] for key, part in value.items() if isinstance(part, Mapping) and "state_dict" in part
    }
    plain = all(
        isinstance(state, Mapping) and all(isinstance(tensor, Tensor) for tensor in state.values())
        for state in parts.values()
    )
    if not value or len(parts) != len(value) or not plain:
        return None
    beside = {f"{key}.{name}" for key, part in value.items() for name in part if name != "state_dict"}
    tensors = {f"{key}.{name}": tensor for key, state in parts.items() for name, tensor in state.items()}
    return CheckpointFile(tensors, "state_dict", tuple(sorted(beside)))


def _safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({_one_line(error)})") from None


def _torch(path: Path) -> Mapping[str, Any]:
    try:
        try:
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:
            # Files of the format before 2020 cannot be mapped.
            value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises whatever it stumbles over; a file that must run code to be read is refused among them.
        pickled = "GLOBAL" in str(error) or "Unsupported class" in str(error)
        why = (
            "it holds more than tensors and plain values, and reading that would run code of the file; where you trust "
            "it, save its state dict alone as safetensors"
            if pickled
            else "it is damaged, or no torch file"
        )
        raise CheckpointError(f"{path}: cannot be read: {why}") from None
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path}: holds no state dict but a {type(value).__name__}")
    return value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
