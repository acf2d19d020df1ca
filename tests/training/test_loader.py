from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from clipvil.training import loader
from clipvil.training.loader import StepDataset, batches_ahead, ordered_loader, training_batches
from clipvil.training.sampler import CountedSampler
from tests.training.toy import ToyTask, toy_world


def test_large_batches_are_prepared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    features, splits = toy_world()
    records = splits["train"].records  # of 2 x 4 float32 cells: 32 bytes each
    monkeypatch.setattr(loader, "_AHEAD", 2 * 32 * 10)
    assert [batches_ahead(records, features, size) for size in (10, 11)] == [2, 1]
    assert batches_ahead((), features, 10) == 2


def test_how_far_a_worker_runs_ahead_changes_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    features, splits = toy_world()
    task = ToyTask()
    task.prepare(splits["train"].records)
    dataset = StepDataset(task, splits["train"].records, features, CountedSampler(300, 16, 0))
    usual = list(training_batches(dataset, range(4), 2))
    monkeypatch.setattr(loader, "_AHEAD", 0)
    bounded = list(training_batches(dataset, range(4), 2))
    assert all(torch.equal(a["x"], b["x"]) for (a,), (b,) in zip(usual, bounded, strict=True))
    assert ordered_loader(dataset, range(4), 2, 1).prefetch_factor == 1
    assert ordered_loader(dataset, range(4), 0).prefetch_factor is None


def test_workers_receive_places_and_draw_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of an epoch of millions is made in the main process alone."""
    features, splits = toy_world()
    task = ToyTask()
    task.prepare(splits["train"].records)
    sampler = CountedSampler(300, 16, 0)
    expected = [StepDataset(task, splits["train"].records, features, sampler)[item]["x"] for item in range(40)]
    main, there = os.getpid(), sampler._permutation

    def permutation(epoch: int) -> Any:
        assert os.getpid() == main, "drawn in a worker"
        return there(epoch)

    monkeypatch.setattr(sampler, "_permutation", permutation)
    sampler._epoch.cache_clear()
    dataset = StepDataset(task, splits["train"].records, features, sampler)
    found = [batch["x"] for (batch,) in training_batches(dataset, range(40), 2)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
