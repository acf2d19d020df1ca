"""The split files of Karpathy and Fei-Fei (2015): `dataset_coco.json`, and those of Flickr8k and Flickr30k.

Data section:

    format: karpathy
    root: /data/coco
    captions: dataset_coco.json
    images: .              # folder of the pictures; files are `filepath`/`filename` inside it
    restval: true          # default: pictures of the split "restval" belong to train, as in the published runs

Records carry the file's own tokens, from which the published vocabularies are made. Image ids are `cocoid` where there
is one, and the file name elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, known, option_path, parse_json, read_text
from clipvil.errors import DataError
from clipvil.records import Caption

_ENTRIES = ("format", "root", "captions", "images", "restval")
RESTVAL = "restval"


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The splits that the file has, train and val first; `restval` only where it is kept apart."""
    return _ordered(_parts(data))


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    parts = _parts(data)
    if split not in parts:
        raise DataError(f"there is no split '{split}'", fix=f"the file has {', '.join(_ordered(parts))}")
    records, files = parts[split]
    folder = option_path(data, "root", ".") / option_path(data, "images", ".")
    return Dataset("karpathy", split, records, {key: folder / name for key, name in files.items()})


def _ordered(parts: Mapping[str, Any]) -> list[str]:
    first = ("train", "val")
    return sorted(parts, key=lambda name: first.index(name) if name in first else len(first))


def _parts(data: Mapping[str, Any]) -> dict[str, tuple[list[Caption], dict[str, str]]]:
    known(data, _ENTRIES)
    path = option_path(data, "root", ".") / option_path(data, "captions")
    restval = True if data.get("restval") is None else data["restval"]
    if not isinstance(restval, bool):
        raise DataError(f"must be true or false, not {restval!r}", field="data.restval")
    return read_karpathy(path, restval=restval)


def read_karpathy(path: str | Path, *, restval: bool = True) -> dict[str, tuple[list[Caption], dict[str, str]]]:
    """Split -> (records in file order, file name of each picture). With `restval` that split is part of train.

    Raises DataError naming the row (a picture) and the field.
    """
    return read_karpathy_value(parse_json(read_text(path), file=path), path, restval=restval)


def read_karpathy_value(
    value: Any, path: str | Path, *, restval: bool = True
) -> dict[str, tuple[list[Caption], dict[str, str]]]:
    """The same for JSON that is in memory already."""
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not images:
        raise DataError("must be an object with a list of pictures under 'images'", file=path, field="images")
    parts: dict[str, tuple[list[Caption], dict[str, str]]] = {}
    seen: dict[str, int] = {}
    for number, item in enumerate(images, start=1):
        row = Row(item, path, number)
        split = row.text("split")
        split = "train" if restval and split == RESTVAL else split
        name = row.text("filename")
        key = row.identifier("cocoid") if row.has("cocoid") else name
        if seen.setdefault(key, number) != number:
            raise row.error(f"picture {key} was already listed in row {seen[key]}", "filename")
        records, files = parts.setdefault(split, ([], {}))
        files[key] = str(Path(row.text("filepath", default="")) / name)
        records += _sentences(row, key)
    return parts


def _sentences(row: Row, key: str) -> list[Caption]:
    sentences = row.raw("sentences")
    if not isinstance(sentences, list):
        raise row.error("must be a list", "sentences")
    out = []
    for place, item in enumerate(sentences, start=1):
        sentence = Row(item, row.file, row.row)
        tokens = sentence.raw("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise row.error(f"sentence {place} must have a list of strings", "tokens")
        caption_id = sentence.identifier("sentid") if sentence.has("sentid") else f"{key}#{place - 1}"
        raw = sentence.text("raw", default=" ".join(tokens), empty=True)
        out.append(Caption(key, raw, caption_id, tuple(tokens)))
    return out
