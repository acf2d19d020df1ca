"""COCO captions in their official files: a JSON of pictures and annotations, and a folder of pictures.

Data section:

    format: coco_captions
    root: /data/coco                   # optional; other paths are relative to it
    train: {captions: annotations/captions_train2014.json, images: train2014}
    val: {captions: annotations/captions_val2014.json, images: val2014}
    test: {captions: annotations/image_info_test2014.json, images: test2014}    # no annotations: one record a picture

Files are named by `file_name`, or by `template` ("COCO_val2014_{:012d}.jpg") where it is given. `prefix` is put before
the image ids of a split, for corpora whose splits number their pictures alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, known, option_path, option_text, parse_json, read_text
from clipvil.errors import DataError
from clipvil.records import Caption

_SPLIT = ("captions", "images", "template", "prefix")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The entries of the data section that describe a split, train and val first."""
    names = [key for key in data if key not in ("format", "root")]
    return sorted(names, key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return load_as("coco_captions", data, split, read_coco)


def load_as(
    name: str,
    data: Mapping[str, Any],
    split: str,
    read: Callable[[str | Path], tuple[list[Caption], dict[str, str]]],
) -> Dataset:
    """Read one split whose entry has `captions`, `images`, `template` and `prefix`, through `read`."""
    names = split_names(data)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names) or 'none'}")
    entry = data[split]
    if not isinstance(entry, Mapping):
        raise DataError(f"the split '{split}' must be a mapping with 'captions' and more")
    known(entry, _SPLIT, f"data.{split}")
    root = option_path(data, "root", ".")
    path = root / option_path(entry, "captions", where=f"data.{split}")
    records, files = read(path)
    prefix, template = (option_text(entry, name, "", where=f"data.{split}") for name in ("prefix", "template"))
    folder = root / option_path(entry, "images", ".", where=f"data.{split}")
    pictures: dict[str, Path] = {}
    for image_id in dict.fromkeys(record.image_id for record in records):
        pictures[prefix + image_id] = folder / _file_name(image_id, files, template, path)
    if prefix:
        records = [Caption(prefix + r.image_id, r.caption, r.caption_id, r.tokens, r.domain) for r in records]
    return Dataset(name, split, records, pictures)


def _file_name(image_id: str, files: Mapping[str, str], template: str, path: Path) -> str:
    if not template:
        if not files.get(image_id):
            raise DataError(
                f"picture {image_id} has no file name", file=path, field="file_name", fix="add it, or give a 'template'"
            )
        return files[image_id]
    try:
        return template.format(int(image_id) if image_id.isdecimal() else image_id)
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise DataError(
            f"the template {template!r} does not fit picture {image_id} ({error})", field="template"
        ) from None


def read_coco(path: str | Path) -> tuple[list[Caption], dict[str, str]]:
    """Records in the order of the annotations, and the file name of every picture that has one.

    Pictures without any annotation come last, as records with an empty caption. Raises DataError for whatever is
    missing, doubled or of the wrong type, and for a caption of a picture that the file does not list.
    """
    return read_coco_value(parse_json(read_text(path), file=path), path)


def read_coco_value(
    value: Any, path: str | Path, domain: Callable[[Row], str] = lambda row: ""
) -> tuple[list[Caption], dict[str, str]]:
    """The same for JSON that is in memory already; `domain` takes the domain from the row of a picture."""
    if not isinstance(value, dict) or not isinstance(value.get("images"), list):
        raise DataError("must be an object with a list under 'images'", file=path, field="images")
    files: dict[str, str] = {}
    rows: dict[str, Row] = {}
    for number, item in enumerate(value["images"], start=1):
        row = Row(item, path, number)
        key = row.identifier("id")
        if key in rows:
            raise row.error(f"picture {key} was already listed in row {rows[key].row}", "id")
        rows[key] = row
        files[key] = row.text("file_name", default="")
    annotations = value.get("annotations", [])
    if not isinstance(annotations, list):
        raise DataError("must be a list", file=path, field="annotations")
    domains = {key: domain(row) for key, row in rows.items()}
    records: list[Caption] = []
    seen: dict[str, int] = {}
    for number, item in enumerate(annotations, start=1):
        row = Row(item, path, number)
        image_id, caption_id = row.identifier("image_id"), row.identifier("id")
        if image_id not in rows:
            raise row.error(f"picture {image_id} is not listed under 'images'", "image_id")
        if seen.setdefault(caption_id, number) != number:
            raise row.error(f"caption {caption_id} was already given in row {seen[caption_id]}", "id")
        records.append(Caption(image_id, row.text("caption", empty=True), caption_id, domain=domains[image_id]))
    told = {record.image_id for record in records}
    records += [Caption(key, "", domain=domains[key]) for key in rows if key not in told]
    if not records:
        raise DataError("holds no pictures", file=path)
    return records, files
