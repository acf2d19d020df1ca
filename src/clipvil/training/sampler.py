"""Which records a training step sees: a pure function of (seed, step), so that resuming needs no sampler state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from clipvil.errors import UsageError


class CountedSampler:
    """Cuts an endless stream of shuffled epochs into batches.

    The stream is epoch 0, epoch 1, ... each a permutation of all `n` records that depends only on (seed, epoch).
    Step k takes the stream's records [k * batch_size, (k + 1) * batch_size). So every batch is full, no record is ever
    dropped, each epoch holds each record once, and a batch may reach over the end of an epoch into the next one (also
    where a batch is larger than the corpus).

    With several processes the batch is the same; process r of w takes every w-th record of it from the r-th on, so
    the gradients averaged over processes are those of one process with the whole batch.
    """

    def __init__(self, n: int, batch_size: int, seed: int, *, rank: int = 0, world: int = 1) -> None:
        """Raises UsageError when there is nothing to draw from or the batch does not divide among the processes."""
        if n < 1:
            raise UsageError("there are no training records: look at the data section of the recipe")
        if batch_size % world:
            raise UsageError(
                f"training.batch_size {batch_size} does not divide among {world} processes: take a multiple of {world}"
            )
        self.n, self.batch_size, self.seed, self.rank, self.world = n, batch_size, seed, rank, world
        # Two epochs are kept, because a batch that crosses a border needs both.
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    def batch(self, step: int) -> np.ndarray:
        """Indices (int64) of this process's records of a step, in order."""
        start = step * self.batch_size
        positions = np.arange(start, start + self.batch_size)[self.rank :: self.world]
        epochs, places = np.divmod(positions, self.n)
        out = np.empty(len(positions), dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            out[here] = self._epoch(int(epoch))[places[here]]
        return out

    def epoch(self, step: int) -> float:
        """How many epochs were seen after `step` steps."""
        return step * self.batch_size / self.n

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.n)

    def __getstate__(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("n", "batch_size", "seed", "rank", "world")}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(**state)  # type: ignore[misc]
