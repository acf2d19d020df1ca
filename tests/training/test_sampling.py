"""The sampler of a recipe: what it asks of records and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from accelerate import Accelerator

from clipvil.datasets.pretraining import PretrainingBuilder
from clipvil.tasks.pretraining_batches import PairsInCorpus
from clipvil.training.sampler import GroupedSampler
from clipvil.training.sampling import create_sampler
from tests.tasks.features import ColourSource
from tests.training.toy import toy_recipe


class Shaped(ColourSource):
    """Pictures p0, p1, ... that are wide and tall in turn; counts how many it was asked for."""

    asked = 0

    def aspects(self, image_ids: Sequence[str], groups: int) -> npt.NDArray[np.int64]:
        self.asked += len(image_ids)
        return np.array([int(image_id[1:]) % 2 for image_id in image_ids])


@pytest.mark.parametrize("packed", [True, False])
def test_pairs_are_grouped_by_the_numbers_of_their_pictures(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = PretrainingBuilder()
    for number in range(60):
        builder.add(f"p{number % 7}", str(number), "vqa", {})
    table = builder.finish().select(np.r_[0:30, 37:60])
    pairs = PairsInCorpus(table if packed else list(table))
    features = Shaped()

    def column(*_: Any) -> list[str]:
        raise AssertionError("millions of ids would be gathered")

    if packed:
        monkeypatch.setattr(type(table), "column", column)
    sampler = create_sampler(toy_recipe(training__batch_size=4), pairs, features, Accelerator(cpu=True))
    monkeypatch.undo()
    assert isinstance(sampler, GroupedSampler)
    names = [pair.image_id for pair in pairs]
    assert sampler.groups.tolist() == [int(name[1:]) % 2 for name in names]
    assert [pairs.picture_name(number) for number in sampler.pictures.tolist()] == names
    assert features.asked == 7
