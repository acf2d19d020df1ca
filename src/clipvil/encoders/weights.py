"""Weights from local files and from the network: nothing unpickled, every failure one line."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import Tensor, nn

from clipvil.errors import EncoderError

_PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_PICKLED = (".pt", ".pth", ".bin", ".ckpt")


HUB_CACHE = "download once with a network: HF_HUB_OFFLINE=1 then uses what is there"
"""What to do about weights of the Hugging Face hub that cannot be had."""
LOCAL_FOLDER = "save the model there with save_pretrained, configuration and image processor included"
"""What to do about a folder of transformers that cannot be read."""
TORCH_CACHE = "put the file into hub/checkpoints under TORCH_HOME (~/.cache/torch), where torchvision looks first"
"""The same for torchvision's, which come from download.pytorch.org."""
CLIP_CACHE = "put the file into ~/.cache/clip, where open_clip looks first"
"""The same for those of open_clip that are not on the hub."""


class UntrainedWarning(UserWarning):
    """Random weights were asked for by name: fine for speed and as a floor, meaningless as features."""


@contextlib.contextmanager
def untrained(name: str, seed: int = 0) -> Iterator[None]:
    """Build inside this block: warns, and gives the same random weights every time without touching global state."""
    warnings.warn(f"{name}: untrained weights, as asked for by ':random'", UntrainedWarning, stacklevel=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def looks_like_path(text: str) -> bool:
    """Whether a weights argument means a file or folder and not a tag (tags hold no separator)."""
    return os.sep in text or text.startswith(("~", ".")) or Path(text).suffix in (".safetensors", *_PICKLED)


def find_weights(path: str | Path, *, name: str) -> Path:
    """The weights file meant by a path: itself, or the best-known file name of a folder. Raises EncoderError."""
    place = Path(path).expanduser()
    if place.is_file():
        return place
    if not place.is_dir():
        raise EncoderError(f"{name}: no file or folder at {place}; check the path after ':'")
    for candidate in _PREFERRED:
        if (place / candidate).is_file():
            return place / candidate
    found = sorted(place.glob("*.safetensors")) or sorted(p for s in _PICKLED for p in place.glob(f"*{s}"))
    if len(found) == 1:
        return found[0]
    what = "no weights" if not found else f"several weights files ({', '.join(p.name for p in found[:4])})"
    raise EncoderError(f"{name}: {what} in {place}; name one .safetensors file after ':'")


def read_state_dict(path: Path, *, name: str) -> dict[str, Tensor]:
    """Tensors by name from safetensors, or from a torch file through `weights_only=True`, wrappers taken off.

    Raises EncoderError for damaged files and for those that would have to run code, TorchScript archives among them.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise EncoderError(f"{name}: no file at {path}; check the path after ':'") from None
    except Exception as problem:
        if "TorchScript" in str(problem):
            why = "it is a TorchScript archive, which is code"
        elif path.suffix == ".safetensors":
            why = f"it is not a whole safetensors file ({str(problem).splitlines()[0]})"
        else:
            why = "it is damaged or holds more than tensors, and unpickling could run code"
        raise EncoderError(
            f"{name}: {path} cannot be loaded: {why}; use the .safetensors of the same weights (for OpenAI's, the "
            "file open_clip_model.safetensors of the hub repositories timm/*_clip*.openai)"
        ) from problem
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()) or not state:
        raise EncoderError(f"{name}: {path} holds no state dict of tensors; save model.state_dict() as safetensors")
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key[len(prefix) :]: value for key, value in state.items()}


def load_strict(module: nn.Module, state: Mapping[str, Tensor], *, name: str, where: object) -> None:
    """`load_state_dict(strict=True)` whose failure is one line naming the first differences."""
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    shapes = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    problems = [
        *(f"lacks {key}" for key in missing[:2]),
        *(f"has {key} too many" for key in unexpected[:2]),
        *(f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}" for key in shapes[:2]),
    ]
    if problems:
        more = len(missing) + len(unexpected) + len(shapes) - len(problems)
        raise EncoderError(
            f"{name}: {where} does not fit the model: {', '.join(problems)}{f' and {more} more' if more > 0 else ''}; "
            "use the model name that these weights belong to"
        )
    module.load_state_dict(state, strict=True)


@contextlib.contextmanager
def downloading(what: str, source: str, *, name: str, cache: str = HUB_CACHE) -> Iterator[None]:
    """Whatever fails inside becomes one EncoderError that says what was wanted, from where, and what to do.

    `cache` is how to do without the network: each library keeps what it downloads in its own place. Where the hub's
    name does not resolve, the block runs in the hub's offline mode: files downloaded before are used at once, and
    absent ones fail at once instead of after a minute of retries. Standard output is for results: what a library
    prints there while it downloads is dropped.
    """
    with _offline_if_unreachable() as offline, contextlib.redirect_stdout(io.StringIO()):
        try:
            yield
        except EncoderError:
            raise
        except Exception as problem:
            reason = "no network" if offline and cache == HUB_CACHE else _reason(problem)
            raise EncoderError(
                f"{name}: cannot get {what} from {source} ({reason}); name a local file or folder instead (see clipvil "
                f"encoders), or {cache}"
            ) from problem


@contextlib.contextmanager
def _offline_if_unreachable() -> Iterator[bool]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    host = urlsplit(constants.ENDPOINT).hostname or "huggingface.co"
    offline = before or not _resolves(host)
    constants.HF_HUB_OFFLINE = offline
    try:
        yield offline
    finally:
        constants.HF_HUB_OFFLINE = before


def _resolves(host: str) -> bool:
    if getproxies():
        return True  # a proxy may reach what this machine cannot name
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def _reason(problem: BaseException) -> str:
    """The deepest cause in a line: hubs chain their errors, and the first of the chain says what happened."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return (next(iter(str(problem).strip().splitlines()), "") or type(problem).__name__)[:160]
