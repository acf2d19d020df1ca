"""Which training pictures a run uses: a share of them, or those of a list."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from clipvil.datasets.columns import column_of, rows_of
from clipvil.datasets.selection import read_ids
from clipvil.errors import DataError
from clipvil.training.inputs import share_of
from clipvil.training.recipe import SubsetChoice, TrainingChoice


def chosen_of(records: Sequence[Any], training: TrainingChoice, pictures: Collection[str]) -> Sequence[Any]:
    """The training records that a recipe's `training.share` or `training.subset` leaves, in their order.

    `pictures` are the ids of all pictures of the split, those without features among them.
    Raises DataError where none is left, where the list is not the one that was asked for, and where it names pictures
    that the split has not.
    """
    if training.subset is None:
        return share_of(records, training.share)
    path = Path(training.subset.file)
    found = list_hash(training.subset)
    if training.subset.sha256 is not None and found != training.subset.sha256:
        raise DataError(
            f"has the SHA-256 {found}, the recipe asks for {training.subset.sha256}",
            file=path,
            field="training.subset",
            fix="it is another list, or was changed",
        )
    listed = read_ids(path)[0]
    foreign = sorted(listed.difference(pictures))
    if foreign:
        some = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise DataError(
            f"{len(foreign)} of {len(listed)} ids belong to no picture of the training split: {some}",
            file=path,
            fix="is it the list of another corpus?",
        )
    rows = [row for row, image_id in enumerate(column_of(records, "image_id")) if image_id in listed]
    if not rows:
        raise DataError(f"leaves none of the {len(records)} training records that have features", file=path)
    return rows_of(records, rows)


def list_hash(subset: SubsetChoice) -> str:
    """The SHA-256 (hex) of a list as it is on disk. Raises DataError where there is none."""
    try:
        return hashlib.sha256(Path(subset.file).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})", file=subset.file, field="training.subset.file"
        ) from None
