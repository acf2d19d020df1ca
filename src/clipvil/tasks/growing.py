"""A run whose tables are too short for this model, made longer: what is new begins as in the fresh model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from clipvil.tasks.base import InitialRun
from clipvil.tasks.transplant import HEAD, initial_tensors

TABLES = ("words", "positions", "segments")
"""Tables of the text side whose rows may go on: those that are there mean the same in both models."""


@contextlib.contextmanager
def grown(initial: InitialRun, model: nn.Module) -> Iterator[InitialRun]:
    """The run with every table of the text side as long as the model's, its further rows taken from there.

    Only makes sense where the rows of the run are the first ones here, as of word pieces that were added behind. The
    run's own files stay as they are; the longer ones are gone after the block. Raises CheckpointError for a damaged
    file.
    """
    tensors, _ = initial_tensors(initial)
    own = model.state_dict()
    longer: dict[str, Tensor] = {}
    for table in TABLES:
        name = f"body.text.{table}.weight"
        if name in tensors and name in own and len(tensors[name]) < len(own[name]):
            fresh = own[name].clone()
            fresh[: len(tensors[name])] = tensors[name]
            longer[name] = fresh
    if not longer:
        yield initial
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / initial.weights.name
        save_file({name.removeprefix(HEAD): tensor.contiguous() for name, tensor in (tensors | longer).items()}, path)
        yield replace(initial, weights=path)
