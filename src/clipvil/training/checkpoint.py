"""Checkpoints: folders that are whole or absent, safetensors and JSON, never pickle.

    checkpoints/checkpoint-<step>/
        model.safetensors       the model's state
        heads.safetensors ...   what training needs and the model does not have, as projection heads of a distillation
        optimiser.safetensors   "<parameter name>/<state name>" for every tensor of the optimisers' state
        state.json              step, early stopping, running sums of the log, recipe; sha256 of the two others

A checkpoint is written into a hidden folder beside its place, every file is fsynced, then the folder, then it is
renamed, then the parent is fsynced. No random state is kept: it is a function of (seed, step), see `randomness`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from clipvil.errors import CheckpointError
from clipvil.files import atomic_write, fsync_folder
from clipvil.training.sharding import gathered, scattered

SCHEMA = 1
_NAME = re.compile(r"checkpoint-(\d+)")
WEIGHTS, OPTIMISER = "model.safetensors", "optimiser.safetensors"
_FILES = (WEIGHTS, OPTIMISER)


class Checkpoints:
    """The checkpoints of one run: the newest `keep` and the best one stay, others are removed."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"checkpoint-{step}"

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, rising."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def clean(self) -> None:
        """Remove what a killed process left half-written or half-removed."""
        if self.folder.is_dir():
            for entry in self.folder.iterdir():
                if entry.name.startswith(".checkpoint-"):
                    shutil.rmtree(entry, ignore_errors=True)

    def save(
        self,
        step: int,
        model: nn.Module,
        optimisers: Iterable[torch.optim.Optimizer],
        state: Mapping[str, Any],
        *,
        best_step: int | None = None,
        writes: bool = True,
        further: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> Path:
        """Write the checkpoint of a step, then remove those no longer needed. `state` must be JSON values.

        `further` are tensors by file name that training needs and the model does not have.

        Where parameters are sharded every process calls this; what is written is whole, and those that do not write
        give their parts.

        Raises:
            CheckpointError: it cannot be written (a full disk); nothing of it is left behind.
        """
        if not writes:
            _give_parts(model, optimisers)
            return self.path(step)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".checkpoint-{step}-", suffix=".tmp", dir=self.folder))
        try:
            with _writing(self.path(step)):
                save_file(model_tensors(model), temporary / _FILES[0])
                save_file(optimiser_tensors(model, optimisers), temporary / _FILES[1])
                for name, tensors in (further or {}).items():
                    save_file(dict(tensors), temporary / name)
            digests = {}
            for name in (*_FILES, *(further or {})):
                _fsync_file(temporary / name)
                digests[name] = sha256(temporary / name)
            content = {"schema": SCHEMA, "step": step, **state, "sha256": digests}
            with _writing(self.path(step)), atomic_write(temporary / "state.json") as stream:
                stream.write(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode())
            temporary.chmod(0o755)
            fsync_folder(temporary)
            temporary.replace(self.path(step))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(self.folder)
        self._prune(best_step)
        return self.path(step)

    def check(self, step: int) -> dict[str, Any]:
        """The state of a checkpoint, after its files were compared with their checksums.

        Raises:
            CheckpointError: something is missing or damaged, or of an unknown schema.
        """
        folder = self.path(step)
        try:
            state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            digests = {name: str(digest) for name, digest in dict(state["sha256"]).items()}
            if missing := set(_FILES) - digests.keys():
                raise KeyError(min(missing))
            schema, stated = state["schema"], state["step"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}: state.json is missing or damaged ({error})") from None
        if schema != SCHEMA or stated != step:
            raise CheckpointError(
                f"{folder}: state.json is of schema {schema}, step {stated}; expected {SCHEMA}, {step}"
            )
        for name, digest in digests.items():
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder}: {name} is missing")
            if sha256(folder / name) != digest:
                raise CheckpointError(f"{folder}: {name} is damaged, its checksum is not the one written with it")
        return state

    def newest(self, *, allow_older: bool = False) -> tuple[int, dict[str, Any], list[str]] | None:
        """Step and state of the newest checkpoint, and a line for each damaged one that was skipped.

        None where no checkpoint was ever written. A skipped checkpoint is renamed to `damaged-checkpoint-<step>`, so
        that the run can write its own again.

        Raises:
            CheckpointError: the newest is damaged and older ones were not allowed, or none is whole.
        """
        skipped: list[str] = []
        steps = self.steps()
        for step in reversed(steps):
            try:
                state = self.check(step)
            except CheckpointError as error:
                older = [other for other in steps if other < step]
                if not allow_older or not older:
                    hint = f"allow an older one (--allow-older) to go on from step {older[-1]}" if older else ""
                    raise CheckpointError(f"{error}; {hint or 'no older one is left: train again'}") from None
                skipped.append(f"skipped {error}")
                self._set_aside(step)
            else:
                return step, state, skipped
        return None

    def load(self, step: int, model: nn.Module, optimisers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """Put the tensors of a checkpoint into the model, and into the optimisers where any are given.

        Raises:
            CheckpointError: the tensors do not fit.
        """
        load_weights(self.path(step) / _FILES[0], model)
        optimisers = tuple(optimisers)
        if optimisers:
            load_optimisers(self.path(step) / _FILES[1], model, optimisers)

    def _prune(self, best_step: int | None) -> None:
        steps = self.steps()
        for step in set(steps) - set(steps[-self.keep :]) - {best_step}:
            # Renamed first: a kill in the middle of the removal must not leave something that looks like a checkpoint.
            trash = self.folder / f".checkpoint-{step}.trash"
            shutil.rmtree(trash, ignore_errors=True)
            self.path(step).replace(trash)
            shutil.rmtree(trash, ignore_errors=True)

    def _set_aside(self, step: int) -> None:
        target = self.folder / f"damaged-checkpoint-{step}"
        shutil.rmtree(target, ignore_errors=True)
        self.path(step).replace(target)


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The model's state as contiguous tensors on the CPU; tied tensors are written once for each of their names."""
    return _separate((name, tensor) for name, tensor in model.state_dict().items())


def save_weights(path: Path, model: nn.Module, *, writes: bool = True) -> None:
    """Write the model's state as one safetensors file, whole or not at all. `writes` as of `Checkpoints.save`.

    Raises:
        CheckpointError: it cannot be written (a full disk).
    """
    if not writes:
        _give_parts(model, ())
        return
    with _writing(path), atomic_write(path) as stream:
        stream.write(save(model_tensors(model)))


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the tensors of a safetensors file into a model.

    Raises:
        CheckpointError: no such file, a damaged one, or tensors that do not fit the model.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; did the training finish?")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    try:
        own = model.state_dict()
        model.load_state_dict({name: scattered(tensor, own.get(name, tensor)) for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit the model: {' '.join(str(error).split())}") from None


def optimiser_tensors(model: nn.Module, optimisers: Iterable[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of all optimisers by parameter name; no parameter belongs to two of them."""
    return _separate(_states(model, optimisers))


def _states(model: nn.Module, optimisers: Iterable[torch.optim.Optimizer]) -> Iterator[tuple[str, Tensor]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return (
        (f"{names[id(parameter)]}/{key}", value)
        for optimiser in optimisers
        for parameter in _parameters(optimiser)
        for key, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    )


def _give_parts(model: nn.Module, optimisers: Iterable[torch.optim.Optimizer]) -> None:
    """What the processes that do not write do meanwhile: all tensors in the same order, none of them kept."""
    for tensor in model.state_dict().values():
        gathered(tensor)
    for _, tensor in _states(model, optimisers):
        gathered(tensor)


def load_optimisers(path: Path, model: nn.Module, optimisers: Iterable[torch.optim.Optimizer]) -> None:
    """Give each optimiser the state of its parameters from one safetensors file.

    Raises:
        CheckpointError: no such file, a damaged one, or one with the state of a parameter that none of them has.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    named = dict(model.named_parameters())
    names = {id(parameter): name for name, parameter in named.items()}
    states: dict[str, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        name, _, key = full.rpartition("/")
        # A copy: tensors mapped from the file are aligned to 8 bytes only, and sums may depend on the alignment.
        states.setdefault(name, {})[key] = scattered(tensor.clone(), named.get(name, tensor))
    for optimiser in optimisers:
        own = [names[id(parameter)] for parameter in _parameters(optimiser)]
        state = {index: states.pop(name) for index, name in enumerate(own) if name in states}
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    if states:
        raise CheckpointError(f"{path}: holds the state of '{next(iter(states))}', which no optimiser of this run has")


def _parameters(optimiser: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    return (parameter for group in optimiser.param_groups for parameter in group["params"])


def _separate(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in named:
        plain = gathered(tensor.detach()).to("cpu").contiguous()
        # safetensors refuses tensors that share memory.
        if plain.untyped_storage().data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        out[name] = plain
    return out


def sha256(path: Path) -> str:
    """The checksum of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into one line that names it."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        raise CheckpointError(f"{path}: cannot be written ({reason}); make room, then go on with --resume") from error


def _fsync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
