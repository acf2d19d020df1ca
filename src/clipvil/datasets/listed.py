"""Any corpus in other splits: which records make a split is said by lists of their ids.

Data section:

    format: listed
    lists: lists.json
    sha256: 9f86...          optional: refuse other lists
    of: {format: vqa_v2, ...}     the corpus, in its own format

`lists.json` is written by `clipvil splits` (or by hand) and says of each new split which records it takes from which
splits of the corpus, and whether the corpus keeps its own splits beside them:

    {"kind": "clipvil.lists", "schema": 1, "keeps": true, "splits": {"hard": {"test": ["17", "42"]}}, "about": {...}}

Records stand in the order of the corpus. A path of `lists` is relative to the folder in which the command runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, known, option_path, parse_json, read_text
from clipvil.datasets.columns import column_of, rows_of
from clipvil.errors import DataError
from clipvil.files import atomic_write_json

FORMAT = "listed"
KIND, SCHEMA = "clipvil.lists", 1
_ENTRIES = ("format", "lists", "sha256", "of")
_IDS = ("question_id", "pair_id", "annotation_id", "uid", "caption_id")

Lists = Mapping[str, Mapping[str, Sequence[str]]]
"""New split -> split of the corpus -> ids of records."""


def corpus_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data section of the corpus underneath: the section itself where no lists are put over it."""
    inner = data.get("of") if data.get("format") == FORMAT else None
    return corpus_of(inner) if isinstance(inner, Mapping) else data


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The splits of the corpus, where the lists keep them, and the new ones."""
    found, keeps = _read(data)
    own = _names(_inner(data)) if keeps else []
    names = [*own, *(name for name in found if name not in own)]
    return sorted(names, key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split. Raises DataError for lists that do not fit the corpus, and whatever the corpus raises."""
    found, keeps = _read(data)
    inner = _inner(data)
    if split not in found:
        if keeps and split in _names(inner):
            return _load(inner, split)
        raise DataError(f"there is no split '{split}'", fix=f"there are {', '.join(split_names(data))}")
    parts = [_part(_load(inner, source), ids, _path(data)) for source, ids in found[split].items()]
    if len(parts) == 1:
        return Dataset(FORMAT, split, *parts[0])
    records = [record for own, _ in parts for record in own]
    return Dataset(FORMAT, split, records, {image: path for _, own in parts for image, path in own.items()})


def write_lists(path: str | Path, splits: Lists, *, keeps: bool, about: Mapping[str, Any]) -> str:
    """Write lists, whole or not at all; returns the SHA-256 (hex) of the file."""
    path = Path(path)
    value = {"kind": KIND, "schema": SCHEMA, "keeps": keeps, "about": dict(about), "splits": splits}
    atomic_write_json(path, value)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ids_of(records: Sequence[Any]) -> list[str]:
    """The id of each record, of whatever kind. Raises DataError for records that have none."""
    key = getattr(records, "key", None) or next((name for name in _IDS if records and hasattr(records[0], name)), None)
    if key is None:
        raise DataError("the records of this corpus have no ids to be listed by")
    return column_of(records, key)


def _part(dataset: Dataset, ids: Iterable[str], path: Path) -> tuple[Sequence[Any], dict[str, Path]]:
    wanted = set(ids)
    rows = [row for row, key in enumerate(ids_of(dataset.records)) if key in wanted]
    if len(rows) != len(wanted):
        there = set(ids_of(dataset.records))
        absent = next((key for key in sorted(wanted) if key not in there), None)
        what = "names a record twice" if absent is None else f"record {absent} is not there"
        raise DataError(f"{what} in the split '{dataset.split}'", file=path, fix="make the lists anew on this corpus")
    records = rows_of(dataset.records, rows)
    used = dict.fromkeys(column_of(records, "image_id"))
    return records, {image: dataset.pictures[image] for image in used}


def _read(data: Mapping[str, Any]) -> tuple[Lists, bool]:
    """The lists of a data section, checked, and whether the corpus keeps its splits."""
    known(data, _ENTRIES)
    path = _path(data)
    text = read_text(path)
    wanted = data.get("sha256")
    if wanted is not None and hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
        raise DataError("is not the file that was asked for: its SHA-256 differs", file=path, field="data.sha256")
    value = parse_json(text, file=path)
    if not isinstance(value, dict) or value.get("kind") != KIND or value.get("schema") != SCHEMA:
        raise DataError(f"holds no lists of splits (kind {KIND}, schema {SCHEMA})", file=path)
    splits = value.get("splits")
    if not isinstance(splits, dict) or not splits:
        raise DataError("must map names of splits to lists", file=path, field="splits")
    for name, sources in splits.items():
        if not isinstance(sources, dict) or not sources:
            raise DataError("must map splits of the corpus to ids", file=path, field=f"splits.{name}")
        for source, ids in sources.items():
            if not isinstance(ids, list) or not ids or not all(isinstance(key, str) for key in ids):
                raise DataError("must be a list of ids, as text", file=path, field=f"splits.{name}.{source}")
    return splits, value.get("keeps") is True


def _path(data: Mapping[str, Any]) -> Path:
    return Path(option_path(data, "lists"))


def _inner(data: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = data.get("of")
    if not isinstance(inner, Mapping):
        raise DataError("must be the data section of a corpus", field="data.of")
    return inner


def _names(inner: Mapping[str, Any]) -> list[str]:
    from clipvil.datasets.registry import split_names

    return split_names(inner)


def _load(inner: Mapping[str, Any], split: str) -> Dataset:
    from clipvil.datasets import registry

    return registry.load(inner, split)
