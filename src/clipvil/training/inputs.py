"""What a run reads: the splits of its corpus, and the features of their pictures, extracted where they are missing."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.errors import DataError, EncoderError, StoreError, UsageError
from clipvil.features.base import FeatureSource
from clipvil.features.ready import ready_store
from clipvil.files import taking_turns

if TYPE_CHECKING:
    from clipvil.datasets.base import Dataset
    from clipvil.encoders.base import Encoder, EncoderSpec
    from clipvil.features.store import Store
    from clipvil.training.recipe import EncoderChoice, Recipe

BLIND = "question-only"
"""The encoder name that asks for no picture at all."""
_DEFAULT_LAYERS = ("last", "last+norm")
"""What encoders give when no layer is named: see `clipvil.encoders.registry`."""


@dataclass(frozen=True)
class Usable:
    """The records of a split whose picture has features, and how many were left out because theirs has none.

    `left_out` stands for the set of pictures without features, see `set_hash`.
    """

    records: Sequence[Any]
    skipped: int
    left_out: str = ""


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


def local_fingerprint(choice: EncoderChoice) -> str:
    """The fingerprint of an encoder whose weights lie on this machine; empty where its name says which they are.

    Builds the encoder. Raises EncoderError where that fails.
    """
    return encoder_of(choice).fingerprint() if _is_local(choice) else ""


def open_features(
    recipe: Recipe,
    datasets: Mapping[str, Dataset],
    out: Path,
    *,
    retry_failed: bool = False,
    fingerprint: str = "",
    quiet: bool = False,
) -> FeatureSource:
    """The features of all pictures of the datasets, from the store that the recipe names, or the pictures themselves.

    The store is `features.store` of the recipe, or `features` inside `out`. A complete one is taken as it is, whatever
    further pictures it holds; one that is not there or not finished is extracted, and with `retry_failed` one in which
    pictures failed. An encoder `store:PATH` is taken from that store, whoever computed it, and the other choices of the
    recipe's encoder say nothing; nothing can be tried again there. An encoder whose weights are local files is built to
    see whether they are those of the store, unless the caller knows its `fingerprint`.

    Raises:
        StoreError: the store holds features of another encoder, other weights, layer, resize policy or type, or lacks
            pictures of the datasets that did not fail; or a store named as the encoder is not there or not finished.
    """
    if recipe.features.source == "pictures":
        from clipvil.training.picture_files import open_pictures

        return open_pictures(recipe, datasets, out, retry_failed=retry_failed, quiet=quiet)
    if recipe.encoder.name == BLIND:
        from clipvil.features.blind import BlindSource

        return BlindSource()
    ready = ready_store(recipe.encoder.name)
    if ready is not None:
        return _covering(open_ready(ready), datasets, "take a store that was made of all of them")
    folder = Path(recipe.features.store) if recipe.features.store else out / "features"
    found = _finished(recipe, datasets, folder, retry_failed, fingerprint)
    if found is not None:
        return found
    with taking_turns(folder.parent / f".{folder.name}.lock"):
        # Whoever was at it meanwhile may have finished it.
        found = _finished(recipe, datasets, folder, retry_failed, fingerprint)
        return found if found is not None else _extracted(recipe, datasets, folder, retry_failed, quiet)


def _finished(
    recipe: Recipe, datasets: Mapping[str, Dataset], folder: Path, retry_failed: bool, fingerprint: str
) -> FeatureSource | None:
    """The store in that folder; None where it is not there or not finished, or where pictures are to be tried again."""
    from clipvil.features.store import Store

    if not (folder / "manifest.json").exists():
        return None
    store = Store.open(folder)
    _check_store(store, recipe)
    if not store.complete:
        return None
    _check_weights(store, recipe, fingerprint)
    if retry_failed and len(store) < store.manifest.total:
        _check_repairable(store, datasets)
        return None
    return _covering(store, datasets, "name another features.store, or remove this one: it is extracted anew")


def _extracted(
    recipe: Recipe, datasets: Mapping[str, Dataset], folder: Path, retry_failed: bool, quiet: bool
) -> FeatureSource:
    from clipvil.features.extract import extract
    from clipvil.features.store import Store
    from clipvil.images.sources import ListSource

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
        retry_failed=retry_failed,
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


def _covering(store: Store, datasets: Mapping[str, Dataset], fix: str) -> Store:
    """The store, if every picture of the datasets was at least tried for it; a smaller corpus is no silent matter."""
    wanted = list(dict.fromkeys(image_id for dataset in datasets.values() for image_id in dataset.pictures))
    unknown = store.lacking(wanted).unknown
    if unknown:
        raise StoreError(
            f"{store.path}: was made of other pictures: {len(unknown)} of the {len(wanted)} of this data are not in it "
            f"(the first is '{unknown[0]}'); {fix}"
        )
    return store


def _check_repairable(store: Store, datasets: Mapping[str, Dataset]) -> None:
    """Refuse to try again what failed in a store of other pictures: from this data alone they cannot all be read."""
    from clipvil.features.manifest import items_digest

    if (
        items_digest(dict.fromkeys(i for dataset in datasets.values() for i in dataset.pictures))
        != store.manifest.items
    ):
        raise StoreError(
            f"{store.path}: was made of another list of pictures than this data, so what failed there cannot be tried "
            "again from here; run the `clipvil extract` that filled it with --retry-failed"
        )


def _is_local(choice: EncoderChoice) -> bool:
    if choice.name == BLIND or ready_store(choice.name) is not None:
        return False
    from clipvil.encoders.request import EncoderRequest

    return EncoderRequest.parse(choice.name).local


def _check_weights(store: Store, recipe: Recipe, fingerprint: str) -> None:
    """Refuse a store that was filled with other weights than those that the encoder's name means now."""
    try:
        now = fingerprint or local_fingerprint(recipe.encoder)
    except EncoderError as error:
        raise StoreError(
            f"{store.path}: whether its features are those of {recipe.encoder.name} cannot be told: {error}; "
            f"encoder.name=store:{store.path} takes them as they are"
        ) from error
    there = store.manifest.encoder.fingerprint
    if now and now != there:
        raise StoreError(
            f"{store.path}: holds features of other weights (fingerprint {there} there, {now} of "
            f"{recipe.encoder.name} now); remove it or name another features.store"
        )


def _check_store(store: Store, recipe: Recipe) -> None:
    """Refuse a store of another encoder than the recipe's, as far as names tell. Builds none: published weights need

    not be on this machine, and they are known by their name.
    """
    from clipvil.images.resize import policy

    found, choice, preprocess = store.manifest, recipe.encoder, store.manifest.encoder.preprocess
    pairs = {
        "encoder.name": (found.encoder.name, choice.name),
        "encoder.layer": (found.encoder.layer, choice.layer or _default_layer(choice.name, found.encoder.layer)),
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


def _default_layer(name: str, stored: str) -> str:
    """The layer of a recipe that names none: the stored one where it can be a default, else what defaults look like."""
    from clipvil.encoders.request import OWN_LIBRARIES

    # Layers of other people's encoders have names of their own.
    can_be = stored in _DEFAULT_LAYERS or name.partition("/")[0] not in OWN_LIBRARIES
    return stored if can_be else "the default"


def usable(records: Sequence[Any], features: FeatureSource, split: str, *, quiet: bool = False) -> Usable:
    """Leave out the records whose picture has no features (it could not be read), and say how many.

    Raises:
        DataError: no record of the split is left.
    """
    from clipvil.datasets.columns import column_of, rows_of

    image_ids = column_of(records, "image_id")
    absent = {image_id for image_id in dict.fromkeys(image_ids) if image_id not in features}
    if not absent:
        return Usable(records, 0)
    kept = [index for index, image_id in enumerate(image_ids) if image_id not in absent]
    if not kept:
        raise DataError(
            f"none of the {len(records)} records of split '{split}' has a picture with features "
            f"(the first wants '{image_ids[0]}'): look at failures.jsonl of the feature store (of `pictures` where "
            "features.source is pictures), and once the pictures "
            "are mended, try them again with --retry-failed"
        )
    missing = len(records) - len(kept)
    if not quiet:
        first = next(image_id for image_id in image_ids if image_id in absent)
        # Pictures that are read in training themselves say where they are told of.
        where = getattr(features, "told_in", "failures.jsonl of the feature store")
        print(
            f"{split}: {missing} of {len(records)} records left out, their pictures have no features "
            f"(the first is '{first}'); see {where}; --retry-failed tries them again",
            file=sys.stderr,
        )
    return Usable(rows_of(records, kept), missing, set_hash(absent))


def holds_pictures(features: FeatureSource, given: Mapping[str, Dataset], wanted: Mapping[str, Dataset]) -> bool:
    """Whether features made for the datasets `given` serve those `wanted` too: each picture is there, the same file."""
    there = {image_id: path for dataset in given.values() for image_id, path in dataset.pictures.items()}
    pictures = [(image_id, path) for dataset in wanted.values() for image_id, path in dataset.pictures.items()]
    return features.spec.name == BLIND or all(there.get(image_id) == path for image_id, path in pictures)


def share_of(records: Sequence[Any], share: float) -> Sequence[Any]:
    """The records of a share of the pictures, chosen by their ids: see `TrainingChoice.share`.

    Raises:
        DataError: there are none.
    """
    from clipvil.datasets.columns import column_of, rows_of

    if share >= 1:
        return records
    image_ids = column_of(records, "image_id")
    chosen = {image_id for image_id in dict.fromkeys(image_ids) if _fraction(f"share/{image_id}") < share}
    rows = [row for row, image_id in enumerate(image_ids) if image_id in chosen]
    if not rows:
        raise DataError(
            f"training.share {share:g} leaves none of the {len(records)} training records; take a larger one"
        )
    return rows_of(records, rows)


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def set_hash(image_ids: Iterable[str]) -> str:
    """16 hex digits that stand for a set of pictures; empty for the empty set."""
    text = json.dumps(sorted(image_ids))
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text != "[]" else ""


def overlap(train: Sequence[Any], other: Sequence[Any]) -> dict[str, int]:
    """How many records of another split stand in the training split too, and how many of its pictures.

    Judging a model on what it was trained on is the commonest way to a number that is too good. Records count as the
    same when all their fields agree. Of records that are made when asked for, only those whose ids stand in both
    splits are made, one by one: a set of all of VQA v2's would cost a gigabyte.
    """
    from clipvil.datasets.columns import column_of

    pictures = set(column_of(train, "image_id"))
    shared = len(set(column_of(other, "image_id")) & pictures)
    key = getattr(train, "key", None)
    if key is None or getattr(other, "key", None) != key:
        records = set(train)
        return {"records": sum(record in records for record in other), "pictures": shared}
    if not shared:
        return {"records": 0, "pictures": 0}
    asked = set(column_of(other, key))
    places: dict[str, list[int]] = {}
    for place, record_id in enumerate(column_of(train, key)):
        if record_id in asked:
            places.setdefault(record_id, []).append(place)
    same = 0
    for place, record_id in enumerate(column_of(other, key)):
        if record_id in places:
            record = other[place]
            same += any(train[there] == record for there in places[record_id])
    return {"records": same, "pictures": shared}


def is_labelled(records: Sequence[Any]) -> bool:
    """Whether the records can be scored: some official test sets come without answers."""
    # VCR's answers are choices, there in a test set too: what says which is right comes first.
    for name in ("answer_label", "answers", "label", "told", "caption"):
        if records and hasattr(records[0], name):
            return any(getattr(record, name) not in ((), "", None) for record in records)
    if records and hasattr(records[0], "path"):
        # A test set of navigation gives the start alone.
        return any(len(record.path) > 1 for record in records)
    return True
