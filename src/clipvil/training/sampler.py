"""Which records a training step sees: a pure function of (seed, step), so that resuming needs no sampler state."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clipvil.errors import UsageError


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
                else f"{parts} micro-batches of training.batch_size {batch_size} do not divide among {world} processes"
            )
        self.n, self.batch_size, self.seed, self.rank, self.world = n, batch_size, seed, rank, world
        self.parts = parts
        # Two epochs are kept, because a batch that crosses a border needs both.
        self._epoch = lru_cache(maxsize=2)(self._narrow)

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

    def _narrow(self, epoch: int) -> npt.NDArray[Any]:
        """The order of an epoch in as few bytes as its numbers need."""
        return self._permutation(epoch).astype(np.min_scalar_type(self.n))

    def _permutation(self, epoch: int) -> npt.NDArray[Any]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.n)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._narrow)


class GroupedSampler(CountedSampler):
    """A `CountedSampler` whose stream is ordered so that micro-batches are cheap.

    That is: pictures of one group, several records of a picture behind each other. Every run of `micro` records
    (positions k * micro to (k + 1) * micro of the stream) lies in one group; a group of fewer than `micro` records is
    joined with its neighbour. Each group has a stream of its own, epoch after epoch a permutation of its records, of
    which runs are taken in turn: what is left of a group at the end of an epoch, fewer than `micro` records, comes
    first in the next. So none is dropped, and none comes a second time before all of its group came once, but the
    epochs of groups end up to a run apart (the published sampler drops some records and repeats others). The records of
    one picture are cut at random into units of at most `sentences`, and units stay together as far as the ends of runs
    allow.
    """

    def __init__(
        self,
        groups: npt.NDArray[Any],
        pictures: npt.NDArray[Any],
        batch_size: int,
        seed: int,
        *,
        micro: int,
        sentences: int = 1,
        rank: int = 0,
        world: int = 1,
        parts: int | None = None,
    ) -> None:
        """`groups` (n,) and `pictures` (n,) are whole numbers for each record.

        Raises UsageError as `CountedSampler`, and where runs of `micro` records do not make up the batch.
        """
        super().__init__(len(groups), batch_size, seed, rank=rank, world=world, parts=parts)
        each = batch_size // self.parts
        if batch_size % micro or (each % micro and micro % each):
            raise UsageError(f"runs of {micro} records do not fit batches of {batch_size} in {self.parts} parts")
        self.groups, self._counts = _joined(groups, micro)
        self.pictures, self.micro, self.sentences = pictures, micro, sentences
        self._starts = np.cumsum(self._counts) - self._counts
        self._turns: tuple[int, npt.NDArray[Any]] = (-1, np.empty(0, np.uint8))

    def part(self, step: int, part: int) -> npt.NDArray[np.int64]:
        """Indices (int64) of the records of one micro-batch, in order."""
        runs, places = np.divmod(self._positions(step, part), self.micro)
        return np.concatenate([self._run(int(run))[places[runs == run]] for run in np.unique(runs)])

    def _positions(self, step: int, part: int) -> npt.NDArray[np.int64]:
        each = self.batch_size // self.parts
        start = step * self.batch_size + part * each
        return np.arange(start, start + each)

    def _runs(self, epoch: int) -> npt.NDArray[np.int64]:
        """How many runs of each group lie before an epoch."""
        return epoch * self._counts // self.micro

    def _run(self, run: int) -> npt.NDArray[np.int64]:
        """The records of a run of the stream, (micro,)."""
        epoch = run * self.micro // self.n
        while int(self._runs(epoch + 1).sum()) <= run:
            epoch += 1
        before = self._runs(epoch)
        turns = self._turns_of(epoch, self._runs(epoch + 1) - before)[: run - int(before.sum()) + 1]
        group = int(turns[-1])
        number = int(before[group]) + int((turns == group).sum()) - 1
        count, start = int(self._counts[group]), int(self._starts[group])
        epochs, places = np.divmod(np.arange(number * self.micro, (number + 1) * self.micro), count)
        return np.concatenate(
            [self._epoch(int(own))[start + places[epochs == own]] for own in np.unique(epochs)]
        ).astype(np.int64)

    def _turns_of(self, epoch: int, each: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The group of every run of an epoch, in order; kept, since an epoch of millions of records has many."""
        if self._turns[0] != epoch:
            turns = np.repeat(np.arange(len(each), dtype=np.min_scalar_type(len(each))), each)
            self._turns = epoch, np.random.default_rng([self.seed, epoch, 1]).permutation(turns)
        return self._turns[1]

    def _permutation(self, epoch: int) -> npt.NDArray[Any]:
        """All records, group after group, units of a picture together."""
        random = np.random.default_rng([self.seed, epoch])
        kind = np.min_scalar_type(self.n)  # of millions of records, what is in between would be half a gigabyte
        order = np.lexsort((random.permutation(self.n).astype(kind), self.pictures)).astype(kind)
        same = self.pictures[order]
        begins = np.flatnonzero(np.r_[True, same[1:] != same[:-1]]).astype(kind)
        within = np.arange(self.n, dtype=kind) - np.repeat(begins, np.diff(np.r_[begins, self.n]))
        within %= min(self.sentences, self.n)  # a number that fits the narrow kind
        unit = np.cumsum(within == 0, dtype=kind) - 1
        del same, within
        shuffled = random.permutation(int(unit[-1]) + 1).astype(kind)[unit]
        return order[np.lexsort((shuffled, self.groups[order]))]


def _joined(groups: npt.NDArray[Any], micro: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Groups numbered from 0, those of fewer than `micro` records joined with their neighbours, and their counts."""
    codes, counts = np.unique(groups, return_counts=True)
    totals: list[int] = []
    into: list[int] = []
    for count in counts.tolist():
        if totals and totals[-1] < micro:
            totals[-1] += count
        else:
            totals.append(count)
        into.append(len(totals) - 1)
    if len(totals) > 1 and totals[-1] < micro:
        totals[-2:] = [sum(totals[-2:])]
    numbers = np.minimum(into, len(totals) - 1).astype(np.min_scalar_type(len(totals)))
    return numbers[np.searchsorted(codes, groups)], np.asarray(totals, dtype=np.int64)
