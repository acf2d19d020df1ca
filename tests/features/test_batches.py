from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import pytest
import torch

from clipvil.errors import ImageError, UsageError
from clipvil.features.background import Background
from clipvil.features.batches import Bad, Batch, End, Work, decode_ahead, events
from clipvil.images.policy import Resized
from clipvil.images.sources import ImageItem


def item(number: int) -> ImageItem:
    return ImageItem(str(number), str(number), lambda: b"")


def work(*sizes: int) -> list[Work]:
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [Work(n, range(size), lambda p, s=starts[n]: item(s + p)) for n, size in enumerate(sizes)]  # type: ignore[misc]


def shaped(shapes: Sequence[tuple[int, int]], bad: Sequence[int] = (), delay: float = 0.0):  # type: ignore[no-untyped-def]
    def prepare(one: ImageItem) -> Resized:
        number = int(one.image_id)
        if delay:
            time.sleep(random.random() * delay)
        if number in bad:
            raise ImageError("corrupt", f"{number} is bad")
        height, width = shapes[number % len(shapes)]
        return Resized(torch.full((3, height, width), number % 256, dtype=torch.uint8), (height, width), (0, 0, 1, 1))

    return prepare


def summary(stream: object) -> list[tuple[object, ...]]:
    out: list[tuple[object, ...]] = []
    for event in stream:  # type: ignore[attr-defined]
        if isinstance(event, Batch):
            out.append(("batch", event.shard, tuple(event.positions), tuple(event.pixels.shape[2:])))
        elif isinstance(event, Bad):
            out.append(("bad", event.shard, event.position, event.failure.reason))
        else:
            out.append(("end", event.shard))
    return out


def test_batches_are_of_one_shape_and_one_shard() -> None:
    shapes = [(8, 8), (8, 16)]
    got = summary(events(work(7, 3), shaped(shapes, bad=[4]), batch_size=2, workers=0))
    assert got == [
        ("batch", 0, (0, 2), (8, 8)),
        ("batch", 0, (1, 3), (8, 16)),
        ("bad", 0, 4, "corrupt"),
        ("batch", 0, (6,), (8, 8)),
        ("batch", 0, (5,), (8, 16)),
        ("end", 0),
        ("batch", 1, (0, 2), (8, 16)),
        ("batch", 1, (1,), (8, 8)),
        ("end", 1),
    ]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_batches_do_not_depend_on_timing(workers: int) -> None:
    shapes = [(8, 8), (8, 16), (16, 8)]
    expected = summary(events(work(20, 13, 1), shaped(shapes, bad=[3, 21]), batch_size=4, workers=0))
    prepare = shaped(shapes, bad=[3, 21], delay=0.003)
    assert summary(events(work(20, 13, 1), prepare, batch_size=4, workers=workers)) == expected


def test_many_shapes_do_not_pile_up() -> None:
    """Every picture has a shape of its own: never more than four batches' worth wait, and each comes out once."""
    count, waiting, most = 100, 0, 0

    def prepare(one: ImageItem) -> Resized:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        side = 8 + int(one.image_id)
        return Resized(torch.zeros(3, side, 8, dtype=torch.uint8), (1, 1), (0, 0, 1, 1))

    seen: list[int] = []
    for event in events(work(count), prepare, batch_size=4, workers=0):
        if isinstance(event, Batch):
            waiting -= len(event.positions)
            seen += event.positions
    assert sorted(seen) == list(range(count)) and most <= 17


def test_look_ahead_is_bounded() -> None:
    begun = 0
    lock = threading.Lock()

    def prepare(one: ImageItem) -> Resized:
        nonlocal begun
        with lock:
            begun += 1
        return Resized(torch.zeros(3, 8, 8, dtype=torch.uint8), (8, 8), (0, 0, 8, 8))

    stream = decode_ahead((item(number) for number in range(1000)), prepare, workers=4, ahead=10)
    for taken in range(1, 50):
        next(stream)
        time.sleep(0.001)
        assert begun <= taken + 10
    stream.close()  # type: ignore[attr-defined]
    assert begun < 100


def test_wrong_use_inside_a_worker_ends_the_run() -> None:
    def prepare(one: ImageItem) -> Resized:
        raise UsageError("the policy does not fit")

    with pytest.raises(UsageError):
        list(events(work(5), prepare, batch_size=2, workers=2))


def test_workers_leave_the_callers_threads_alone() -> None:
    before = torch.get_num_threads()
    list(events(work(20), shaped([(8, 8)]), batch_size=4, workers=3))
    numbers: list[int] = []
    after = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    after.start()
    after.join()
    assert torch.get_num_threads() == before and numbers == [before]


def test_background_runs_in_order_and_reports_the_first_error() -> None:
    background, done = Background(), []
    for number in range(20):
        background.submit(done.append, number)
    background.close()
    assert done == list(range(20))

    background = Background()
    background.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        for _ in range(100):
            background.submit(time.sleep, 0.001)
        background.close()
    background.stop()


def test_ends_come_even_for_shards_of_failures() -> None:
    got = list(events(work(2), shaped([(8, 8)], bad=[0, 1]), batch_size=2, workers=0))
    assert isinstance(got[-1], End) and len(got) == 3
