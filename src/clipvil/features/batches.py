"""From a list of pictures to batches of one shape, decoded ahead in threads, in an order that never depends on timing.

Threads and not processes: reading, Pillow's decoders and torch's resampling all release the interpreter lock, and
nothing has to be pickled or copied between processes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from clipvil.errors import ClipvilError, ItemError
from clipvil.features.shard import Failure, Placement
from clipvil.images.policy import Resized
from clipvil.images.sources import ImageItem


class Named(Protocol):
    """An input of a store: a picture, or features that were computed elsewhere."""

    @property
    def image_id(self) -> str:
        """Unique in its source."""
        ...

    @property
    def where(self) -> str:
        """The place for people, one printable line."""
        ...


Item = TypeVar("Item", bound=Named)
Result = TypeVar("Result")
Prepare = Callable[[ImageItem], Resized]


@dataclass(frozen=True)
class Work(Generic[Item]):
    """Inputs of one shard that are to be done: their positions in the shard, ascending, and how to get the items."""

    shard: int
    positions: Sequence[int]
    item: Callable[[int], Item]


@dataclass(frozen=True)
class Batch:
    """Pictures of one shard and one shape, ready to be encoded: pixels uint8 (B, 3, H, W)."""

    shard: int
    positions: list[int]
    placements: list[Placement]
    pixels: Tensor


@dataclass(frozen=True)
class Bad:
    """A picture that cannot be used."""

    shard: int
    position: int
    failure: Failure


@dataclass(frozen=True)
class End:
    """All pictures of a shard have come."""

    shard: int


def attempt(item: Item, prepare: Callable[[Item], Result]) -> tuple[Item, Result | Failure]:
    """Read and prepare one input. What is wrong with the input comes back as a Failure; other errors are raised."""
    try:
        return item, prepare(item)
    except ItemError as error:
        return item, Failure(item.image_id, item.where, error.reason, str(error))
    except (ClipvilError, MemoryError):
        raise
    except Exception as error:
        # Third-party sources and codecs may raise anything; one odd picture must not end a run of a million.
        message = f"{item.where}: {type(error).__name__}: {error}"
        reason = "unreadable" if isinstance(error, OSError) else "error"
        return item, Failure(item.image_id, item.where, reason, message)


def decode_ahead(
    items: Iterable[Item], prepare: Callable[[Item], Result], *, workers: int, ahead: int
) -> Iterator[tuple[Item, Result | Failure]]:
    """The items prepared by `workers` threads (0: by the caller), in order, at most `ahead` of them in memory."""
    if workers == 0:
        yield from (attempt(item, prepare) for item in items)
        return
    torch.get_num_threads()  # fixes the caller's own number before the workers choose theirs
    # A worker does one picture on one core: parallel kernels inside it would only fight with the encoder's threads.
    pool = ThreadPoolExecutor(workers, "clipvil-decode", initializer=lambda: torch.set_num_threads(1))
    waiting: deque[Future[tuple[Item, Result | Failure]]] = deque()
    try:
        source = iter(items)
        for item in itertools.islice(source, ahead):
            waiting.append(pool.submit(attempt, item, prepare))
        while waiting:
            done = waiting.popleft().result()
            for item in itertools.islice(source, 1):
                waiting.append(pool.submit(attempt, item, prepare))
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        # Setting the number in a worker also sets it for threads that start later; put back what the caller has.
        torch.set_num_threads(torch.get_num_threads())


def events(
    work: Sequence[Work[ImageItem]], prepare: Prepare, *, batch_size: int, workers: int
) -> Iterator[Batch | Bad | End]:
    """Batches, bad pictures and the ends of shards; a pure function of the pictures and of `batch_size`.

    Within a shard, pictures wait until `batch_size` of one shape have come. At most four batches' worth wait: beyond
    that the fullest shape goes as it is, so that memory stays bounded however many shapes there are.
    """
    places = ((unit.shard, position) for unit in work for position in unit.positions)
    items = (unit.item(position) for unit in work for position in unit.positions)
    decoded = decode_ahead(items, prepare, workers=workers, ahead=2 * batch_size)
    try:
        for unit in work:
            waiting: dict[tuple[int, int], list[tuple[int, ImageItem, Resized]]] = {}
            held = 0
            for (_, position), (item, result) in zip(
                itertools.islice(places, len(unit.positions)), decoded, strict=False
            ):
                if isinstance(result, Failure):
                    yield Bad(unit.shard, position, result)
                    continue
                shape = (int(result.pixels.shape[1]), int(result.pixels.shape[2]))
                group = waiting.setdefault(shape, [])
                group.append((position, item, result))
                held += 1
                if len(group) == batch_size or held == 4 * batch_size:
                    fullest = max(waiting, key=lambda key: (len(waiting[key]), key))
                    held -= len(waiting[fullest])
                    yield _batch(unit.shard, waiting.pop(fullest))
            for shape in sorted(waiting):
                yield _batch(unit.shard, waiting[shape])
            yield End(unit.shard)
    finally:
        decoded.close()  # type: ignore[attr-defined]


def _batch(shard: int, group: list[tuple[int, ImageItem, Resized]]) -> Batch:
    placements = [Placement(item.image_id, result.original_size, result.box) for _, item, result in group]
    return Batch(shard, [entry[0] for entry in group], placements, torch.stack([entry[2].pixels for entry in group]))
