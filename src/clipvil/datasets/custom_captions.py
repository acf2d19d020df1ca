"""Captions of one's own: a CSV, TSV, JSONL or JSON table with a row a caption.

Columns: `image` (a path, relative to `images`; also the picture's id) and `caption` (or `captions`, a list in JSON);
optional `caption_id`, `domain`, `split`. Other columns are ignored.

Data section, one of:

    {format: custom_captions, captions: all.csv, images: folder}                     splits from the column `split`, or
    {format: custom_captions, captions: all.csv, holdout: {val: 0.1, test: 0.2}}     by picture (default: 0.1 and 0.1)
    {format: custom_captions, train: train.csv, val: val.csv, test: test.csv}        one table a split
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, iter_rows, known, option_int, option_path
from clipvil.datasets.splitting import checked_holdout, split_pictures
from clipvil.errors import DataError
from clipvil.records import Caption

_REQUIRED = ("image",)
_OPTIONAL = ("caption", "captions", "caption_id", "domain", "split")
_OPTIONS = ("format", "root", "images", "captions", "holdout", "seed")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """Which splits there are; for one table that means reading it."""
    if data.get("captions") is not None:
        return _ordered(_one_table(data)[1].values())
    names = [key for key in data if key not in _OPTIONS]
    if "train" not in names:
        raise DataError("the data section needs 'captions' (one table) or 'train' (one table a split)")
    return _ordered(names)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    root = option_path(data, "root", ".")
    if data.get("captions") is not None:
        known(data, _OPTIONS)
        path = root / option_path(data, "captions")
        everything, assigned = _one_table(data)
        _check_split(split, _ordered(assigned.values()))
        records = [record for record in everything if assigned[record.image_id] == split]
    else:
        _check_split(split, split_names(data))
        path = root / option_path(data, split)
        # Row numbers start over in each file, so ids made from them carry the split's name.
        records = read_captions(path, prefix=f"{split}/")
    folder = root / option_path(data, "images") if data.get("images") is not None else path.parent
    return Dataset(
        "custom_captions", split, records, {i: folder / i for i in dict.fromkeys(r.image_id for r in records)}
    )


def read_captions(path: str | Path, *, prefix: str = "") -> list[Caption]:
    """Records in file order. A row without `caption_id` gets its row number behind `prefix`.

    Raises DataError naming file, row and field.
    """
    return [record for record, _ in _read(path, prefix)]


def _ordered(names: Iterable[str]) -> list[str]:
    first = ("train", "val")
    return sorted(dict.fromkeys(names), key=lambda name: first.index(name) if name in first else len(first))


def _check_split(split: str, names: list[str]) -> None:
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data has {', '.join(names)}")


def _read(path: str | Path, prefix: str = "") -> list[tuple[Caption, Row]]:
    out: list[tuple[Caption, Row]] = []
    seen: dict[str, int] = {}
    for row in iter_rows(path, _REQUIRED, _OPTIONAL):
        for record in _records(row, prefix):
            if record.caption_id in seen:
                raise row.error(f"{record.caption_id} was already used in row {seen[record.caption_id]}", "caption_id")
            seen[record.caption_id] = row.row
            out.append((record, row))
    if not out:
        raise DataError("holds no captions", file=path)
    return out


def _records(row: Row, prefix: str) -> list[Caption]:
    image, domain = row.text("image"), row.text("domain", default="")
    own = row.identifier("caption_id") if row.has("caption_id") else f"{prefix}{row.row}"
    if not row.has("captions"):
        return [Caption(image, row.text("caption").strip(), own, domain=domain)]
    if row.has("caption"):
        raise row.error("a row has either 'caption' or 'captions', not both", "captions")
    given = row.raw("captions")
    if not isinstance(given, list) or not given:
        raise row.error("must be a list of captions", "captions")
    texts = [row.checked_text(text, "captions").strip() for text in given]
    return [Caption(image, text, f"{own}#{place}", domain=domain) for place, text in enumerate(texts)]


def _one_table(data: Mapping[str, Any]) -> tuple[list[Caption], dict[str, str]]:
    """All records of the table, and the split of each picture."""
    path = option_path(data, "root", ".") / option_path(data, "captions")
    read = _read(path)
    records = [record for record, _ in read]
    named = [row.has("split") for _, row in read]
    if not any(named):
        return records, split_pictures(
            (r.image_id for r in records), checked_holdout(data), seed=option_int(data, "seed", 0)
        )
    if not all(named):
        raise read[named.index(False)][1].error("is missing, though other rows name one", "split")
    if data.get("holdout"):
        raise DataError("the table has a column 'split'; drop it or 'holdout'", file=path, field="holdout")
    parts: dict[str, str] = {}
    for record, row in read:
        split = row.text("split")
        if parts.setdefault(record.image_id, split) != split:
            raise row.error(f"picture {record.image_id} is also in the split '{parts[record.image_id]}'", "split")
    return records, parts
