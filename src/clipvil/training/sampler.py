"""Which records a training step sees: a pure function of (seed, step), so that resuming needs no sampler state."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from clipvil.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accelerate import Accelerator

    from clipvil.features.base import FeatureSource
    from clipvil.training.recipe import Recipe


def create_sampler(
    recipe: Recipe, records: Sequence[Any], features: FeatureSource, accelerator: Accelerator
) -> CountedSampler:
    """The sampler of a recipe for this process."""
    batch, micro = recipe.training.batch_size, recipe.training.micro_batch
    if micro is not None and batch % micro:
        raise UsageError(f"training.batch_size {batch} is no multiple of training.micro_batch {micro}")
    place = {"rank": accelerator.process_index, "world": accelerator.num_processes}
    return CountedSampler(len(records), batch, recipe.seed, **place, parts=micro and batch // micro)


class Sampler(Protocol):
    """Cuts the records of each step into micro-batches, and says which of them are this process's."""

    seed: int
    batch_size: int
    parts: int
    """Micro-batches a step, over all processes."""

    @property
    def own_parts(self) -> int:
        """Micro-batches a step in this process."""
        ...

    def locate(self, item: int) -> tuple[int, int]:
        """Step and part of this process's `item`-th micro-batch."""
        ...

    def part(self, step: int, part: int) -> npt.NDArray[np.int64]:
        """Indices of the records of one micro-batch, in order."""
        ...

    def epoch(self, step: int) -> float:
        """How many epochs were seen after `step` steps."""
        ...


class CountedSampler:
    """Cuts an endless stream of shuffled epochs into batches.

    The stream is epoch 0, epoch 1, ... each a permutation of all `n` records that depends only on (seed, epoch).
    Step k takes the stream's records [k * batch_size, (k + 1) * batch_size). So every batch is full, no record is ever
    dropped, each epoch holds each record once, and a batch may reach over the end of an epoch into the next one (also
    where a batch is larger than the corpus).

    A batch is cut into `parts` micro-batches (None: one a process); part p takes every `parts`-th record from the p-th
    on. With several processes the batch and its parts are the same; process r of w has the parts r, r + w, ..., so the
    gradients summed over parts and processes are those of one process with the whole batch.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1, parts: int | None = None
    ) -> None:
        """Raises UsageError when there is nothing to draw from or the batch does not divide as asked."""
        if n < 1:
            raise UsageError("there are no training records: look at the data section of the recipe")
        parts = parts or world
        if batch_size % parts or parts % world:
            raise UsageError(
                f"training.batch_size {batch_size} does not divide among {world} processes: take a multiple of {world}"
                if parts == world
                else f"training.batch_size {batch_size} in {parts} micro-batches does not divide among {world} processes"
            )
        self.n, self.batch_size, self.seed, self.rank, self.world = n, batch_size, seed, rank, world
        self.parts = parts
        # Two epochs are kept, because a batch that crosses a border needs both.
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    @property
    def own_parts(self) -> int:
        """Micro-batches a step in this process."""
        return self.parts // self.world

    def locate(self, item: int) -> tuple[int, int]:
        """Step and part of this process's `item`-th micro-batch."""
        step, own = divmod(item, self.own_parts)
        return step, self.rank + own * self.world

    def batch(self, step: int) -> npt.NDArray[np.int64]:
        """Indices (int64) of this process's records of a step, micro-batch after micro-batch."""
        return np.concatenate([self.part(step, part) for part in range(self.rank, self.parts, self.world)])

    def part(self, step: int, part: int) -> npt.NDArray[np.int64]:
        """Indices (int64) of the records of one micro-batch, in order."""
        positions = self._positions(step, part)
        epochs, places = np.divmod(positions, self.n)
        out = np.empty(len(positions), dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            out[here] = self._epoch(int(epoch))[places[here]]
        return out

    def epoch(self, step: int) -> float:
        """How many epochs were seen after `step` steps."""
        return step * self.batch_size / self.n

    def _positions(self, step: int, part: int) -> npt.NDArray[np.int64]:
        """Where the records of a micro-batch stand in the stream."""
        start = step * self.batch_size
        return np.arange(start, start + self.batch_size)[part :: self.parts]

    def _permutation(self, epoch: int) -> npt.NDArray[Any]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.n)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._permutation)
