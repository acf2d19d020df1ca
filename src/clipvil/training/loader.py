"""Batches of a run in step order, put together here or in worker processes, the same either way."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clipvil.features.base import FeatureSource
from clipvil.tasks.base import Task
from clipvil.training.randomness import seed_everything
from clipvil.training.sampler import CountedSampler

# Only Linux forks safely enough to do it with threads about.
_FORK = multiprocessing.get_context("fork") if sys.platform == "linux" else None


_AHEAD = 2**28
"""Bytes of grids up to which a worker prepares two batches ahead, as is usual; larger ones are prepared one by one."""


class StepDataset(Dataset[dict[str, Tensor]]):
    """Item k is the whole batch of step k: collation happens inside the workers, and order is the step's number."""

    def __init__(self, task: Task, records: Sequence[Any], features: FeatureSource, sampler: CountedSampler) -> None:
        self.task, self.records, self.features, self.sampler = task, records, features, sampler

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        # A task may draw random numbers while it collates (masked words): they belong to the step, not to the worker.
        seed_everything(self.sampler.seed, "collate", step, self.sampler.rank)
        return self.task.collate([self.records[i] for i in self.sampler.batch(step)], self.features)


def training_batches(dataset: StepDataset, steps: range, workers: int) -> Iterator[dict[str, Tensor]]:
    """The batches of the steps asked for, in order."""
    share = -(-dataset.sampler.batch_size // dataset.sampler.world)
    ahead = batches_ahead(dataset.records, dataset.features, share) if workers else 2
    yield from ordered_loader(dataset, steps, workers, ahead)


def batches_ahead(records: Sequence[Any], features: FeatureSource, size: int) -> int:
    """How many batches of `size` records each worker prepares ahead, from the float32 grid of the first record.

    What waits is 2 x workers batches by default, of which one of 512 full CLIP grids alone has 800 MB.
    """
    if not len(records):
        return 2
    return 2 if 2 * size * features.batch([records[0].image_id]).cells.nbytes <= _AHEAD else 1


def ordered_loader(
    dataset: Dataset[dict[str, Tensor]], items: Sequence[int], workers: int, ahead: int = 2
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
