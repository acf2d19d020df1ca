from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipvil.errors import UsageError
from clipvil.training.sampler import CountedSampler, GroupedSampler


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


def grouped(n: int, micro: int, each: int, seed: int, **more: int) -> GroupedSampler:
    """Records of a few pictures in three groups; a picture lies in one group."""
    random = np.random.default_rng(seed)
    pictures = random.integers(max(n // 3, 1), size=n)
    return GroupedSampler(pictures % 3, pictures, micro * each, seed, micro=micro, **more)


@given(
    n=st.integers(1, 60), micro=st.integers(1, 12), each=st.integers(1, 3), seed=st.integers(0, 999),
    sentences=st.integers(1, 5), epochs=st.integers(1, 4),
)  # fmt: skip
def test_a_grouped_stream_holds_every_record_about_equally_often(
    n: int, micro: int, each: int, seed: int, sentences: int, epochs: int
) -> None:
    sampler = grouped(n, micro, each, seed, sentences=sentences)
    stream = np.concatenate([sampler.batch(step) for step in range(-(-n * epochs // sampler.batch_size))])
    counts = np.bincount(stream, minlength=n)
    for group in np.unique(sampler.groups):
        own = counts[sampler.groups == group]
        # None comes again before all of its group came, and what is left of the group comes in the next epoch.
        assert own.max() - own.min() <= 1
        assert abs(own.sum() - len(stream) / n * len(own)) < 2 * micro * (each + len(np.unique(sampler.groups)))


@given(n=st.integers(1, 200), micro=st.integers(1, 10), seed=st.integers(0, 999))
def test_runs_lie_in_one_group(n: int, micro: int, seed: int) -> None:
    sampler = grouped(n, micro, 1, seed)
    given_groups = sampler.pictures % 3
    large = np.bincount(given_groups, minlength=3).min() >= micro
    for step in range(3 * n // micro + 1):
        run = sampler.batch(step)
        assert len(set(sampler.groups[run])) == 1
        if large:
            assert len(set(given_groups[run])) == 1


def test_small_groups_are_joined_with_their_neighbours() -> None:
    def joined(*counts: int) -> list[int]:
        groups = np.repeat(np.arange(len(counts)), counts)
        sampler = GroupedSampler(groups, np.arange(len(groups)), 4, 0, micro=4)
        return [int(sampler.groups[groups == group][0]) for group in range(len(counts))]

    assert joined(5, 4, 9) == [0, 1, 2]
    assert joined(1, 2, 9, 5) == [0, 0, 0, 1]
    assert joined(6, 5, 1) == [0, 1, 1]
    assert joined(1, 1) == [0, 0]


def test_what_is_left_of_an_epoch_comes_in_the_next() -> None:
    """Seven records in runs of four: the last three of an epoch stand in one run with the first of the next."""
    sampler = GroupedSampler(np.zeros(7), np.arange(7), 4, 0, micro=4)
    stream = np.concatenate([sampler.batch(step) for step in range(7)])
    # One group alone, whose runs may come in any order within an epoch.
    assert np.bincount(stream).tolist() == [4] * 7


def test_sentences_of_a_picture_follow_each_other() -> None:
    pictures = np.repeat(np.arange(8), 8)
    sampler = GroupedSampler(np.zeros(64), pictures, 16, 0, micro=16, sentences=4)
    distinct = [len(set(pictures[sampler.batch(step)])) for step in range(4)]
    assert max(distinct) <= 4
    single = GroupedSampler(np.zeros(64), pictures, 16, 0, micro=16)
    assert min(len(set(pictures[single.batch(step)])) for step in range(4)) > 4
    # Which sentences go together changes with the epoch.
    assert not np.array_equal(np.sort(sampler.batch(0)[:4]), np.sort(sampler.batch(4)[:4]))


@pytest.mark.parametrize("kind", ["counted", "grouped"])
def test_micro_batches_do_not_depend_on_the_number_of_processes(kind: str) -> None:
    def create(rank: int, world: int) -> CountedSampler:
        place = {"rank": rank, "world": world, "parts": 4}
        return CountedSampler(50, 12, 3, **place) if kind == "counted" else grouped(50, 3, 4, 3, **place)

    alone = create(0, 1)
    seen = {}
    for rank in range(2):
        sampler = create(rank, 2)
        for item in range(5 * sampler.own_parts):
            step, part = sampler.locate(item)
            seen[step, part] = sampler.part(step, part).tolist()
    assert seen == {(step, part): alone.part(step, part).tolist() for step in range(5) for part in range(4)}
    assert np.array_equal(copy.deepcopy(create(1, 2)).batch(7), create(1, 2).batch(7))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match="3 micro-batches"):
        CountedSampler(9, 6, 0, world=2, parts=3)
    with pytest.raises(UsageError, match="runs of 4"):
        GroupedSampler(np.zeros(9), np.arange(9), 10, 0, micro=4)


def test_the_order_of_an_epoch_takes_few_bytes_and_many_sentences_a_picture() -> None:
    sampler = GroupedSampler(np.zeros(70_000), np.zeros(70_000, dtype=np.int32), 16, 0, micro=16, sentences=10**6)
    assert sampler._epoch(0).itemsize == 4
    assert CountedSampler(200, 8, 0)._epoch(0).itemsize == 1
    few = GroupedSampler(np.zeros(9), np.arange(9) // 5, 3, 0, micro=3, sentences=10**6)
    assert sorted(np.concatenate([few.batch(step) for step in range(3)])) == list(range(9))
