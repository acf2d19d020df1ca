"""Captions and references in whatever file people have them, for scoring without a corpus or a model.

References: COCO annotations (`images` is optional), Karpathy's JSON (one split), NoCaps, a JSON object from image id to
a caption or a list of them, a JSON list or JSONL or CSV of rows with `image_id` (or `image`) and `caption` (or
`captions`), and Flickr's token files. Predictions: COCO's result list, such an object or table, or a run's
`predictions_<split>.jsonl` (`output` instead of `caption`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Row, iter_rows, parse_json, read_text
from clipvil.datasets.flickr import read_flickr
from clipvil.datasets.karpathy import read_karpathy_value
from clipvil.errors import DataError
from clipvil.records import Caption

_TEXT_FILES = (".txt", ".token")


@dataclass
class References:
    """Image id -> captions, in file order; image id -> domain, where the file has domains (NoCaps)."""

    captions: dict[str, list[str]] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)


def read_references(path: str | Path, *, split: str | None = None) -> References:
    """Read references; `split` chooses the pictures of a Karpathy file (default: test).

    Pictures that the file lists without any caption are left out. Raises DataError naming file, row and field.
    """
    kind = Path(path).suffix.lower()
    out = References()
    if kind in _TEXT_FILES:
        for record in read_flickr(path):
            out.captions.setdefault(record.image_id, []).append(record.caption)
    elif kind == ".json":
        _from_json(_parsed(path), path, split, out)
    else:
        for row in iter_rows(path):
            out.captions.setdefault(_image(row), []).extend(_captions(row))
    out.captions = {key: captions for key, captions in out.captions.items() if captions}
    if not out.captions:
        raise DataError("holds no captions", file=path)
    return out


def read_training_captions(path: str | Path, *, split: str = "train") -> tuple[list[Caption], list[Caption]]:
    """Captions as records: those of the split, and all of the file. Only a Karpathy file has splits of its own."""
    if Path(path).suffix.lower() == ".json":
        value = _parsed(path)
        if isinstance(value, dict) and isinstance(value.get("images"), list) and "annotations" not in value:
            parts = read_karpathy_value(value, path)
            if split not in parts:
                raise DataError(f"has no split '{split}'", file=path, fix=f"--split is one of {', '.join(parts)}")
            return parts[split][0], [record for records, _ in parts.values() for record in records]
    given = read_references(path).captions
    records = [Caption(key, text, f"{key}#{k}") for key, texts in given.items() for k, text in enumerate(texts)]
    return records, records


def _from_json(value: Any, path: str | Path, split: str | None, out: References) -> None:
    if isinstance(value, list):
        for number, item in enumerate(value, start=1):
            row = Row(item, path, number)
            out.captions.setdefault(_image(row), []).extend(_captions(row))
    elif not isinstance(value, dict):
        raise DataError("must be an object or a list", file=path)
    elif isinstance(value.get("annotations"), list):
        _from_coco(value, path, out)
    elif isinstance(value.get("images"), list):
        parts = read_karpathy_value(value, path)
        wanted = split or "test"
        if wanted not in parts:
            raise DataError(f"has no split '{wanted}'", file=path, fix=f"--split is one of {', '.join(parts)}")
        for record in parts[wanted][0]:
            out.captions.setdefault(record.image_id, []).append(record.caption)
    else:
        for key, given in value.items():
            out.captions[key] = _several(key, given, path)


def _from_coco(value: Mapping[str, Any], path: str | Path, out: References) -> None:
    images = value.get("images")
    for number, item in enumerate(images if isinstance(images, list) else [], start=1):
        row = Row(item, path, number)
        key = row.identifier("id")
        out.captions[key] = []
        if row.has("domain"):
            out.domains[key] = row.text("domain")
    for number, item in enumerate(value["annotations"], start=1):
        row = Row(item, path, number)
        # `id` is not needed, and neither is `images`: many people write just pictures and captions.
        out.captions.setdefault(row.identifier("image_id"), []).append(row.text("caption", empty=True))


def read_said(path: str | Path) -> dict[str, str]:
    """Read one caption a picture: image id -> caption, in file order. A caption may be empty.

    Raises DataError naming the row for a missing field, a wrong type or a picture that comes twice.
    """
    if Path(path).suffix.lower() == ".json":
        value = _parsed(path)
        if isinstance(value, dict):
            return {key: _one(key, given, path) for key, given in value.items()}
    said: dict[str, str] = {}
    rows: dict[str, int] = {}
    for row in iter_rows(path):
        key = _image(row)
        if key in rows:
            raise row.error(f"picture {key} already has a caption in row {rows[key]}", "image_id")
        rows[key] = row.row
        name = "output" if "output" in row.value and "caption" not in row.value else "caption"
        # An empty cell of a table is a caption of no words; a missing column is a mistake.
        table = Path(path).suffix.lower() in (".csv", ".tsv")
        said[key] = row.text(name, default="" if table and not row.has(name) else None, empty=True)
    if not said:
        raise DataError("holds no captions", file=path)
    return said


def _parsed(path: str | Path) -> Any:
    return parse_json(read_text(path), file=path, object_pairs_hook=lambda pairs: _without_doubles(pairs, path))


def _without_doubles(pairs: Iterable[tuple[str, Any]], path: str | Path) -> dict[str, Any]:
    # Plain JSON keeps the last of two equal keys and says nothing.
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise DataError(f"the key {key!r} comes twice in one object", file=path)
        out[key] = value
    return out


def _image(row: Row) -> str:
    return row.identifier("image_id" if "image_id" in row.value or "image" not in row.value else "image")


def _captions(row: Row) -> list[str]:
    if row.has("captions"):
        given = row.raw("captions")
        if not isinstance(given, list):
            raise row.error("must be a list of captions", "captions")
        return [row.checked_text(text, "captions", empty=True) for text in given]
    return [row.text("caption", empty=True)]


def _several(key: str, given: Any, path: str | Path) -> list[str]:
    items = given if isinstance(given, list) else [given]
    # {"caption": ...} instead of a string is what pycocoevalcap's tokenizer takes.
    texts = [item.get("caption") if isinstance(item, dict) else item for item in items]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"picture {key} must have a caption or a list of captions", file=path, row=key)
    row = Row({}, path, 0)
    return [row.checked_text(text, key, empty=True) for text in texts]


def _one(key: str, given: Any, path: str | Path) -> str:
    texts = _several(key, given, path)
    if len(texts) != 1:
        raise DataError(f"picture {key} has {len(texts)} captions, and one is judged", file=path, row=key)
    return texts[0]
