"""Batches of a run in step order, put together here or in worker processes, the same either way."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipvil.features.base import FeatureSource
from clipvil.tasks.base import Task
from clipvil.training.randomness import seed_everything
from clipvil.training.sampler import Sampler

# Only Linux forks safely enough to do it with threads about.
_FORK = multiprocessing.get_context("fork") if sys.platform == "linux" else None


_AHEAD = 2**28
"""Bytes of grids up to which a worker prepares two batches ahead, as is usual; larger ones are prepared one by one."""


class Drawn(NamedTuple):
    """A micro-batch before it is put together: step, part, and the places of its records (B,) int64."""

    step: int
    part: int
    places: npt.NDArray[np.int64]


Addition = Callable[[Task, dict[str, Tensor], npt.NDArray[np.int64], int], dict[str, Tensor]]
"""From task, batch, places of its records and step to the batch with more in it."""


class StepDataset(Dataset[dict[str, Tensor]]):
    """Item i is a whole micro-batch: collation happens inside the workers, and order is the number of step and part.

    The batch of a step is cut into `parts` micro-batches, of which this process has every `world`-th, so each step has
    `parts / world` items here.
    """

    def __init__(
        self,
        task: Task,
        records: Sequence[Any],
        features: FeatureSource,
        sampler: Sampler,
        add: Addition | None = None,
    ) -> None:
        """`add` puts into a batch what the task does not know of, after the task drew its random numbers."""
        self.task, self.records, self.features, self.sampler = task, records, features, sampler
        self.add = add

    def draw(self, item: int) -> Drawn:
        """Which records make up this process's `item`-th micro-batch."""
        step, part = self.sampler.locate(item)
        return Drawn(step, part, self.sampler.part(step, part))

    def __getitem__(self, item: int | Drawn) -> dict[str, Tensor]:
        step, part, places = self.draw(item) if isinstance(item, int) else item
        # A task may draw random numbers while it collates (masked words): they belong to the step, not to the worker.
        seed_everything(self.sampler.seed, "collate", step, part)
        batch = self.task.collate([self.records[i] for i in places], self.features)
        return batch if self.add is None else self.add(self.task, batch, places, step)


class _Drawing(Sequence[Any]):
    """Micro-batches that are drawn when the loader comes to them."""

    def __init__(self, dataset: StepDataset, items: range) -> None:
        self.dataset, self.items = dataset, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Drawn:
        return self.dataset.draw(self.items[index])


def training_batches(dataset: StepDataset, steps: range, workers: int) -> Iterator[list[dict[str, Tensor]]]:
    """This process's micro-batches of each step asked for, in order."""
    own = dataset.sampler.own_parts
    share = -(-dataset.sampler.batch_size // dataset.sampler.parts)
    ahead = batches_ahead(dataset.records, dataset.features, share) if workers else 2
    # Drawn here and sent: an epoch's order of millions of records is made once a process, not in every worker.
    drawn = _Drawing(dataset, range(steps.start * own, steps.stop * own))
    loader = iter(ordered_loader(dataset, drawn, workers, ahead))
    for _ in steps:
        yield list(itertools.islice(loader, own))


def batches_ahead(records: Sequence[Any], features: FeatureSource, size: int) -> int:
    """How many batches of `size` records each worker prepares ahead, from the float32 grid of the first record.

    What waits is 2 x workers batches by default, of which one of 512 full CLIP grids alone has 800 MB.
    """
    if not len(records):
        return 2
    own = getattr(features, "bytes_of", None)  # what is no grid tells itself how large it is
    first = records[0].image_id
    return 2 if 2 * size * (own(first) if own else features.batch([first]).cells.nbytes) <= _AHEAD else 1


def ordered_loader(
    dataset: Dataset[dict[str, Tensor]], items: Sequence[Any], workers: int, ahead: int = 2
) -> DataLoader[dict[str, Tensor]]:
    """A loader of whole items of a dataset in the order asked, made here (0 workers) or in worker processes, each of

    which prepares `ahead` items before they are asked for.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        pin_memory=torch.cuda.is_available(),
        # An own generator: the loader would otherwise draw its seed from torch's global one.
        generator=torch.Generator(),
        # Forked workers share the records and start in milliseconds; the other methods (Python's default from 3.14 on)
        # import torch and unpickle every record in each worker, at every evaluation. They touch no GPU.
        multiprocessing_context=_FORK if workers else None,
    )


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move every tensor of a batch."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
