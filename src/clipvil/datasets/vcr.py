"""VCR 1.0: questions about tagged objects of a film still, four answers, four rationales.

Data section: `format: vcr`, optional `root`, and for each split a mapping:

    train: {annotations: train.jsonl, images: vcr1images}
    val: {annotations: val.jsonl, images: vcr1images}
    rule_singular: {annotations: val_rule_singular.jsonl, images: vcr1images}     (made by `clipvil vcr shortcuts`)

`images` is where `img_fn` starts, `metadata` where `metadata_fn` starts (without it: `images`, as in the official
archive). `boxes: false` reads no metadata, for models that tie no tag to its box. A picture is known by `img_id`, or by
`img_fn` where a row has none.

The official layout, a line a question: `question` and each of four `answer_choices` and `rationale_choices` are lists
of tokens, and a token is a word or a list of places in `objects` (0-based; several are a group). `answer_label` and
`rationale_label` are absent in test.jsonl. The metadata of a picture is a JSON object with `boxes`, of each object x1,
y1, x2, y2 and a confidence that is dropped, and `width` and `height`.

Source: Zellers et al. 2019, "From Recognition to Cognition", and the reader released with it (rowanz/r2c).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, json_lines, known, option_path, parse_json, read_text
from clipvil.datasets.commonsense import CommonsenseSequence, Line
from clipvil.datasets.parts import DATA, Pictures
from clipvil.errors import DataError
from clipvil.records import Commonsense

ENTRIES = ("annotations", "images", "metadata", "boxes")
CHOICES = 4

Token = str | tuple[int, ...]
Sentence = tuple[Token, ...]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Metadata:
    """What is known of a picture: boxes of its objects in pixels, and its size (width, height) where that is said."""

    boxes: tuple[Box, ...]
    size: tuple[float, float] | None


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The entries of the data section that describe a split, train and val first. Opens nothing."""
    names = [key for key in data if key not in DATA]
    for name in names:
        _entry(data, name)
    return sorted(names, key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split. Raises DataError naming file, row and field for whatever is wrong in it or in its metadata."""
    names = split_names(data)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names) or 'none'}")
    entry, where = _entry(data, split), f"data.{split}"
    root = option_path(data, "root", ".")
    images = root / option_path(entry, "images", ".", where=where)
    folder = root / option_path(entry, "metadata", where=where) if entry.get("metadata") is not None else images
    records = read_vcr(root / option_path(entry, "annotations", where=where), folder if wants_boxes(entry) else None)
    return Dataset("vcr", split, records, Pictures({i: str(images / f) for i, f in records.files().items()}))


def wants_boxes(entry: Mapping[str, Any]) -> bool:
    """The entry `boxes`, true where it is absent. Raises DataError for anything else than true or false."""
    value = entry.get("boxes", True)
    if not isinstance(value, bool):
        raise DataError(f"must be true or false, not {value!r}", field="boxes")
    return value


def read_vcr(path: str | Path, metadata: str | Path | None = None) -> CommonsenseSequence:
    """The questions of a file in its order, with the boxes that the folder `metadata` has (None: without boxes).

    Every line and every metadata file is checked here; records are made when they are asked for. Raises DataError
    naming file, row and field: a missing field, a tag of no object, a metadata file that is not there, boxes that do
    not go with the objects, a question that comes twice.
    """
    path = Path(path)
    lines: list[Line] = []
    rows: dict[str, int] = {}
    pictures: dict[str, str] = {}
    found: dict[str, Metadata] = {}
    for start, row in json_lines(path):
        record = parse_row(row)
        if record.annotation_id in rows:
            raise row.error(
                f"question {record.annotation_id} already stands in row {rows[record.annotation_id]}", "annot_id"
            )
        rows[record.annotation_id] = row.row
        file = row.text("img_fn")
        there = pictures.setdefault(record.image_id, file)
        if there != file:
            raise row.error(f"picture {record.image_id} is {file!r} here and {there!r} in an earlier row", "img_fn")
        name = ""
        if metadata is not None:
            name = row.text("metadata_fn")
            if name not in found:
                found[name] = read_metadata(Path(metadata) / name, asked_by=row)
            _check_boxes(row, record, found[name], Path(metadata) / name)
        lines.append(Line(start, row.row, record.annotation_id, record.image_id, name))
    if not lines:
        raise DataError("holds no questions", file=path)
    return CommonsenseSequence(path, lines, pictures, found)


def parse_row(row: Row) -> Commonsense:
    """One line as a record without boxes. Raises DataError naming the field."""
    objects = row.raw("objects")
    if not isinstance(objects, list) or not all(isinstance(name, str) and name.strip() for name in objects):
        raise row.error("must be a list of class names", "objects")
    answers = _choices(row, "answer_choices", len(objects))
    rationales = _choices(row, "rationale_choices", len(objects)) if row.has("rationale_choices") else ()
    return Commonsense(
        row.identifier("annot_id"),
        row.identifier("img_id" if row.has("img_id") else "img_fn"),
        _sentence(row, row.raw("question"), "question", len(objects)),
        answers,
        rationales,
        label_of(row, "answer_label"),
        label_of(row, "rationale_label"),
        tuple(objects),
    )


def label_of(row: Row, name: str) -> int | None:
    """A label from 0 to 3, None where the row has none. Raises DataError for anything else."""
    if not row.has(name):
        return None
    value = row.value[name]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < CHOICES:
        raise row.error(f"must be a whole number from 0 to {CHOICES - 1}, not {value!r}", name)
    return value


def read_metadata(path: Path, *, asked_by: Row | None = None) -> Metadata:
    """The metadata file of a picture. Raises DataError saying what is wrong with it, or which row wants it in vain."""
    if asked_by is not None and not path.is_file():
        raise asked_by.error(
            f"there is no metadata file {path}",
            "metadata_fn",
            "name its folder as 'metadata', or set 'boxes: false' to do without boxes",
        )
    value = parse_json(read_text(path), file=path)
    if not isinstance(value, dict) or not isinstance(value.get("boxes"), list):
        raise DataError("must be an object with a list of boxes", file=path, field="boxes")
    boxes = tuple(_box(box, path, number) for number, box in enumerate(value["boxes"]))
    if value.get("width") is None and value.get("height") is None:
        return Metadata(boxes, None)
    return Metadata(boxes, (_side(value, "width", path), _side(value, "height", path)))


def _entry(data: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    entry = data[split]
    if not isinstance(entry, Mapping):
        raise DataError(f"the split '{split}' must be a mapping with 'annotations' and more", field=f"data.{split}")
    known(entry, ENTRIES, f"data.{split}")
    return entry


def _choices(row: Row, name: str, objects: int) -> tuple[Sentence, ...]:
    value = row.raw(name)
    if not isinstance(value, list) or len(value) != CHOICES:
        count = f"{len(value)}" if isinstance(value, list) else "no list"
        raise row.error(f"must be a list of {CHOICES} sentences, not {count}", name)
    return tuple(_sentence(row, one, f"{name}[{place}]", objects) for place, one in enumerate(value))


def _sentence(row: Row, value: Any, name: str, objects: int) -> Sentence:
    if not isinstance(value, list) or not value:
        raise row.error("must be a list of tokens, and not an empty one", name)
    return tuple(_token(row, token, name, objects) for token in value)


def _token(row: Row, token: Any, name: str, objects: int) -> Token:
    if isinstance(token, str):
        return row.checked_text(token, name, empty=True)
    if not isinstance(token, list) or not token:
        raise row.error(f"a token must be a word or a list of object numbers, not {token!r}", name)
    for tag in token:
        if isinstance(tag, bool) or not isinstance(tag, int):
            raise row.error(f"a tag must be a whole number, not {tag!r}", name)
        if not 0 <= tag < objects:
            raise row.error(f"tag {tag} names no object; the row has {objects}, numbered from 0", name)
    return tuple(token)


def _check_boxes(row: Row, record: Commonsense, found: Metadata, path: Path) -> None:
    if len(found.boxes) != len(record.objects):
        raise row.error(
            f"names {len(record.objects)} objects, and {path} has {len(found.boxes)} boxes",
            "objects",
            "fetch the metadata again, or set 'boxes: false' to do without boxes",
        )


def _box(value: Any, path: Path, number: int) -> Box:
    if not isinstance(value, list) or len(value) not in (4, 5) or not all(_number(part) for part in value):
        raise DataError("must be x1, y1, x2, y2 and a confidence", file=path, field=f"boxes[{number}]")
    x1, y1, x2, y2 = (float(part) for part in value[:4])
    if x2 < x1 or y2 < y1:
        raise DataError(f"its end lies before its beginning: {value}", file=path, field=f"boxes[{number}]")
    return (x1, y1, x2, y2)


def _side(value: Mapping[str, Any], name: str, path: Path) -> float:
    side: Any = value.get(name)
    if not _number(side) or side <= 0:
        raise DataError(f"must be a number above 0, not {side!r}", file=path, field=name)
    return float(side)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
