from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from clipvil.encoders.base import EncoderSpec
from clipvil.errors import StoreError
from clipvil.features.base import GridBatch
from clipvil.features.blind import BlindSource
from clipvil.features.store import Store
from clipvil.training.memory import MemorySource, in_memory


class Ragged:
    """Pictures of 2 or 3 cells."""

    spec = EncoderSpec("ragged", "0", 4)

    def __contains__(self, image_id: object) -> bool:
        return True

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        shapes = torch.tensor([[1, 2 + int(image_id) % 2] for image_id in image_ids])
        longest = int(shapes[:, 1].max())
        mask = None if bool((shapes == shapes[0]).all()) else torch.arange(longest)[None] < shapes[:, 1:]
        return GridBatch(torch.ones(len(image_ids), longest, 4), mask, shapes)


def test_it_gives_what_the_store_gives(mini_run: Path) -> None:
    store = Store.open(mini_run / "features")
    ids = store.ids()
    held = in_memory(store, ids + ids)
    assert isinstance(held, MemorySource)
    assert held.spec == store.spec
    asked = [ids[7], ids[0], ids[7], ids[-1]]
    ours, theirs = held.batch(asked), store.batch(asked)
    assert torch.equal(ours.cells, theirs.cells)
    assert torch.equal(ours.shapes, theirs.shapes)
    assert ours.mask is theirs.mask is None
    assert ours.pooled is not None
    assert theirs.pooled is not None
    assert torch.equal(ours.pooled, theirs.pooled)
    assert ids[0] in held
    assert "nothing" not in held
    with pytest.raises(StoreError, match="nothing"):
        held.batch([ids[0], "nothing"])


def test_what_is_too_large_or_ragged_stays_where_it_is(mini_run: Path) -> None:
    store = Store.open(mini_run / "features")
    assert in_memory(store, store.ids(), limit=1000) is store
    for ids in (["0", "1"], ["0", "2", *["4"] * 300, "5"], [str(2 * i) for i in range(256)] + ["1", "3"]):
        ragged = Ragged()
        assert in_memory(ragged, ids) is ragged
    assert isinstance(in_memory(BlindSource(), ["a", "b"]), MemorySource)
