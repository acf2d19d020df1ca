"""What a run reads: the splits of its corpus, and the features of their pictures, extracted where they are missing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.errors import DataError, StoreError, UsageError
from clipvil.features.base import FeatureSource
from clipvil.features.ready import ready_store

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset
    from clipvil.encoders.base import Encoder, EncoderSpec
    from clipvil.features.store import Store
    from clipvil.training.recipe import EncoderChoice, Recipe

BLIND = "question-only"
"""The encoder name that asks for no picture at all."""


@dataclass(frozen=True)
class Usable:
    """The records of a split whose picture has features, and how many were left out because theirs has none."""

    records: Sequence[Any]
    skipped: int


def load_datasets(data: Mapping[str, Any], splits: Sequence[str] | None = None) -> dict[str, Dataset]:
    """Every split of a data section by name, or only those asked for."""
    from clipvil.datasets.registry import load, split_names

    known = split_names(data)
    for split in splits or ():
        if split not in known:
            raise DataError(f"the data has no split '{split}'; it has {', '.join(known)}")
    return {split: load(data, split) for split in splits or known}


def encoder_of(choice: EncoderChoice) -> Encoder:
    """The encoder that a recipe names. Raises UsageError where it names a store, which encodes nothing."""
    if ready_store(choice.name) is not None:
        raise UsageError(
            f"'{choice.name}' is a store of features that are there already: it has no encoder for other pictures"
        )
    from clipvil.encoders.registry import create_encoder

    return create_encoder(choice.name, layer=choice.layer, positions=choice.positions, channels=choice.channels)


def other_encoder(trained: EncoderSpec, fingerprint: str, channels: int) -> str:
    """Why features of this fingerprint and depth mean nothing to a model trained on `trained`; empty where they fit.

    A converted checkpoint tells no fingerprint: there only the depth of the grid can be held against it.
    """
    if trained.fingerprint and trained.fingerprint != fingerprint:
        return (
            f"trained with {trained.name} of fingerprint {trained.fingerprint}, but the one here has {fingerprint}: "
            "other weights or another version; its answers would mean nothing"
        )
    if trained.grid_channels != channels:
        return f"trained on grids of {trained.grid_channels} channels, those here have {channels}: another encoder"
    return ""


def open_features(recipe: Recipe, datasets: Mapping[str, Dataset], out: Path, *, quiet: bool = False) -> FeatureSource:
    """The features of all pictures of the datasets, from the store that the recipe names.

    The store is `features.store` of the recipe, or `features` inside `out`. A complete one is taken as it is, whatever
    further pictures it holds; one that is not there or not finished is extracted. An encoder `store:PATH` is taken
    from that store, whoever computed it, and the other choices of the recipe's encoder say nothing.

    Raises:
        StoreError: the store holds features of another encoder, layer, resize policy or type; or a store named as the
            encoder is not there or not finished.
    """
    if recipe.encoder.name == BLIND:
        from clipvil.features.blind import BlindSource

        return BlindSource()
    from clipvil.features.extract import extract
    from clipvil.features.store import Store
    from clipvil.images.sources import ListSource

    ready = ready_store(recipe.encoder.name)
    if ready is not None:
        return open_ready(ready)
    folder = Path(recipe.features.store) if recipe.features.store else out / "features"
    if (folder / "manifest.json").exists():
        store = Store.open(folder)
        _check_store(store, recipe)
        if store.complete:
            return store
    items = {item.image_id: item for dataset in datasets.values() for item in dataset.images}
    extract(
        ListSource(list(items.values())),
        encoder=encoder_of(recipe.encoder),
        out=folder,
        resize=recipe.encoder.resize,
        positions=recipe.encoder.positions,
        precision=recipe.features.precision,
        dtype=recipe.features.dtype,
        workers=recipe.features.workers,
        progress=not quiet,
    )
    return Store.open(folder)


def open_ready(path: Path) -> Store:
    """A finished store that stands in the place of an encoder. Raises StoreError."""
    from clipvil.features.store import Store

    store = Store.open(path)
    if not store.complete:
        raise StoreError(f"{path}: is not finished; run the command that fills it again")
    return store


def _check_store(store: Store, recipe: Recipe) -> None:
    """Refuse a store of another encoder than the recipe's. Builds none: its weights need not be on this machine."""
    from clipvil.images.resize import policy

    found, choice, preprocess = store.manifest, recipe.encoder, store.manifest.encoder.preprocess
    pairs = {
        "encoder.name": (found.encoder.name, choice.name),
        "encoder.layer": (found.encoder.layer, choice.layer or found.encoder.layer),
        "encoder.positions": (found.encoder.positions, choice.positions),
        "encoder.channels": (preprocess.channels if preprocess else "unknown", choice.channels),
        "encoder.resize": (found.resize, policy(choice.resize).name),
        "features.dtype": (found.dtype, recipe.features.dtype),
    }
    if recipe.features.precision != "auto":
        # "fp32+channels_last" is fp32 in another memory layout.
        pairs["features.precision"] = (found.precision.choice.partition("+")[0], recipe.features.precision)
    wrong = [f"{field} is {there} there, {asked} asked" for field, (there, asked) in pairs.items() if there != asked]
    if wrong:
        raise StoreError(f"{store.path}: {'; '.join(wrong)}; name another features.store or change the recipe")


def usable(records: Sequence[Any], features: FeatureSource, split: str, *, quiet: bool = False) -> Usable:
    """Leave out the records whose picture has no features (it could not be read), and say how many.

    Raises:
        DataError: no record of the split is left.
    """
    known: dict[str, bool] = {}

    def present(image_id: str) -> bool:
        if image_id not in known:
            known[image_id] = image_id in features
        return known[image_id]

    missing = [index for index, record in enumerate(records) if not present(record.image_id)]
    if not missing:
        return Usable(records, 0)
    if len(missing) == len(records):
        raise DataError(
            f"none of the {len(records)} records of split '{split}' has a picture with features "
            f"(the first wants '{records[0].image_id}'): look at failures.jsonl of the feature store"
        )
    if not quiet:
        first = records[missing[0]].image_id
        print(
            f"{split}: {len(missing)} of {len(records)} records left out, their pictures have no features "
            f"(the first is '{first}'); see failures.jsonl of the feature store",
            file=sys.stderr,
        )
    gone = set(missing)
    return Usable([record for index, record in enumerate(records) if index not in gone], len(missing))


def overlap(train: Sequence[Any], other: Sequence[Any]) -> dict[str, int]:
    """How many records of another split stand in the training split too, and how many of its pictures.

    Judging a model on what it was trained on is the commonest way to a number that is too good.
    """
    records, pictures = set(train), {record.image_id for record in train}
    return {
        "records": sum(record in records for record in other),
        "pictures": len({record.image_id for record in other} & pictures),
    }


def is_labelled(records: Sequence[Any]) -> bool:
    """Whether the records can be scored: some official test sets come without answers."""
    for name in ("answers", "label", "answer_label"):
        if records and hasattr(records[0], name):
            return any(getattr(record, name) not in ((), "", None) for record in records)
    return True
