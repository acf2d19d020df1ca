"""Predictions of a model for a list of records, each record once, on one process or many."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from clipvil.datasets.columns import column_of
from clipvil.features.base import FeatureSource
from clipvil.progress import progress
from clipvil.tasks.base import Prediction, Task, reading_order
from clipvil.training.loader import batches_ahead, ordered_loader, to_device
from clipvil.training.partial import PartialPredictions
from clipvil.training.randomness import seed_everything

if TYPE_CHECKING:
    from accelerate import Accelerator


class _Ordered(Sequence[Any]):
    """Records in another order, taken one by one from the sequence they stand in."""

    def __init__(self, records: Sequence[Any], order: Sequence[int]) -> None:
        self.records, self.places = records, order

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        return self.records[self.places[index]]


class _Chunks(Dataset[dict[str, Tensor]]):
    """Item i is the i-th batch of a list of records, in order, the last one as short as it is."""

    def __init__(self, task: Task, records: Sequence[Any], features: FeatureSource, batch_size: int) -> None:
        self.task, self.records, self.features, self.batch_size = task, records, features, batch_size

    def __len__(self) -> int:
        return -(-len(self.records) // self.batch_size)

    def chunk(self, index: int) -> list[Any]:
        start = index * self.batch_size
        # Item by item: a sequence that reads from disk need not support slices.
        return [self.records[i] for i in range(start, min(start + self.batch_size, len(self.records)))]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        # Should a task draw random numbers here, they are the same at every evaluation.
        seed_everything("predict", index)
        return self.task.collate(self.chunk(index), self.features)


def predict_all(
    task: Task,
    model: nn.Module,
    records: Sequence[Any],
    features: FeatureSource,
    *,
    batch_size: int,
    workers: int = 0,
    mixed_precision: str = "no",
    accelerator: Accelerator | None = None,
    label: str = "predict",
    quiet: bool = True,
    partial: PartialPredictions | None = None,
) -> list[Prediction]:
    """One prediction a record, in the order of the records, whatever order the task prefers to read them in.

    `model` is the plain module (not wrapped for several processes). With an accelerator of w processes each process
    predicts every w-th batch, without padding, and all get the whole list: no record is judged twice. `partial` keeps
    the batches of one process as they are done, and hands back those of a process before.
    """
    order = _order(task, records, features)
    chunks = _Chunks(task, _Ordered(records, order), features, batch_size)
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    done = dict(partial.done) if partial else {}
    mine = [index for index in range(rank, len(chunks), world) if index not in done]
    device = next(iter(model.parameters())).device
    ahead = batches_ahead(records, features, batch_size) if workers else 2
    loader = ordered_loader(chunks, mine, workers, ahead)
    with (
        evaluating(model),
        autocast(device, mixed_precision),
        progress(len(mine), label, unit="batches", quiet=quiet or rank > 0) as bar,
    ):
        for index, batch in zip(mine, loader, strict=True):
            done[index] = task.predict(model, to_device(batch, device), chunks.chunk(index))
            if partial:
                partial.add(index, done[index])
            bar.update()
    if accelerator is not None and world > 1:
        from accelerate.utils import gather_object

        for index, predictions in gather_object(list(done.items())):
            done[index] = predictions
    read = (prediction for index in range(len(chunks)) for prediction in done[index])
    by_place = dict(zip(order, read, strict=True))
    return [by_place[place] for place in range(len(records))]


def _order(task: Task, records: Sequence[Any], features: FeatureSource) -> Sequence[int]:
    """The task's own order of reading, else that of the source (pictures of one shape together), else the records'."""
    by_source = getattr(features, "reading_order", None)
    if by_source is None or getattr(task, "order", None) is not None:
        return reading_order(task, records)
    order: list[int] = by_source(column_of(records, "image_id"))
    return order


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode and nothing records gradients; afterwards its mode is what it was."""
    was_training = model.training
    model.eval()
    try:
        # Not inference_mode: a tensor that a model caches there could not be used in training afterwards.
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def autocast(device: torch.device, mixed_precision: str) -> contextlib.AbstractContextManager[Any]:
    """Automatic bf16 where the recipe asks for it, nothing otherwise."""
    if mixed_precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
