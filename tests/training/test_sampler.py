from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.errors import UsageError
from clipvil.training.sampler import CountedSampler


@given(n=st.integers(1, 40), batch=st.integers(1, 60), seed=st.integers(0, 2**32 - 1), epochs=st.integers(1, 4))
def test_the_stream_holds_each_epoch_whole(n: int, batch: int, seed: int, epochs: int) -> None:
    sampler = CountedSampler(n, batch, seed)
    steps = -(-n * epochs // batch)
    stream = np.concatenate([sampler.batch(step) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))
    assert all(len(sampler.batch(step)) == batch for step in range(steps))


@given(n=st.integers(1, 40), each=st.integers(1, 9), world=st.integers(1, 4), step=st.integers(0, 30))
def test_processes_share_the_batch_of_one(n: int, each: int, world: int, step: int) -> None:
    whole = CountedSampler(n, each * world, 3).batch(step)
    parts = [CountedSampler(n, each * world, 3, rank=rank, world=world).batch(step) for rank in range(world)]
    assert {len(part) for part in parts} == {each}
    assert np.array_equal(np.stack(parts, axis=1).ravel(), whole)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    there = [CountedSampler(50, 8, 1).batch(step) for step in range(30)]
    back = CountedSampler(50, 8, 1)
    for step in (29, 3, 17, 0, 29):
        assert np.array_equal(back.batch(step), there[step])
        assert np.array_equal(copy.deepcopy(back).batch(step), there[step])
    assert not np.array_equal(CountedSampler(50, 8, 2).batch(0), there[0])


def test_epochs_are_shuffled_differently() -> None:
    sampler = CountedSampler(100, 100, 0)
    assert not np.array_equal(sampler.batch(0), sampler.batch(1))
    assert sampler.epoch(3) == 3.0


def test_nothing_to_draw_from_and_indivisible_batches_are_refused() -> None:
    with pytest.raises(UsageError, match="no training records"):
        CountedSampler(0, 4, 0)
    with pytest.raises(UsageError, match="multiple of 3"):
        CountedSampler(9, 4, 0, world=3)
