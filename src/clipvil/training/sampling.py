"""The sampler that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipvil.datasets.columns import column_of
from clipvil.errors import UsageError
from clipvil.features.base import FeatureSource
from clipvil.training.recipe import Recipe
from clipvil.training.sampler import CountedSampler, GroupedSampler

if TYPE_CHECKING:
    from accelerate import Accelerator


def create_sampler(
    recipe: Recipe, records: Sequence[Any], features: FeatureSource, accelerator: Accelerator
) -> CountedSampler:
    """The sampler of a recipe for this process.

    With pictures, one that keeps near shapes and one picture's records together. Raises UsageError where the batch does
    not divide as the recipe says.
    """
    batch, micro = recipe.training.batch_size, recipe.training.micro_batch
    rank, world = accelerator.process_index, accelerator.num_processes
    if micro is not None and batch % micro:
        raise UsageError(f"training.batch_size {batch} is no multiple of training.micro_batch {micro}")
    parts = None if micro is None else batch // micro
    if not hasattr(features, "aspects") or not len(records):
        return CountedSampler(len(records), batch, recipe.seed, rank=rank, world=world, parts=parts)
    # Millions of pre-training pairs know the numbers of their pictures; sorting their ids would take gigabytes.
    own = getattr(records, "pictures", None)
    if own is None:
        names, pictures = np.unique(np.asarray(column_of(records, "image_id")), return_inverse=True)
        numbers, ids = np.arange(len(names)), names.tolist()
    else:
        pictures = own()
        numbers = np.flatnonzero(np.bincount(pictures))
        ids = [records.picture_name(number) for number in numbers.tolist()]  # type: ignore[attr-defined]
    aspects = np.zeros(int(numbers[-1]) + 1, dtype=np.int8)
    aspects[numbers] = features.aspects(ids, recipe.pictures.aspects)
    return GroupedSampler(
        aspects[pictures],
        pictures.astype(np.int32),
        batch,
        recipe.seed,
        micro=micro or batch,
        sentences=recipe.pictures.sentences,
        rank=rank,
        world=world,
        parts=parts,
    )
