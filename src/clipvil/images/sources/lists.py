"""Pictures named by a file: CSV and JSONL lists, COCO and Karpathy JSON."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from clipvil.errors import DataError
from clipvil.images.decode import Limits
from clipvil.images.sources.base import ImageItem, ImageSource, printable
from clipvil.images.sources.files import FileBytes

PATH_FIELDS = ("image", "path", "file_name")
ID_FIELDS = ("id", "image_id")
_LONGEST_LINE = 2**24


class NamedSource(ImageSource):
    """Pictures whose ids and paths a file lists; relative paths start at `root`. Raises DataError for a double id."""

    def __init__(self, file: Path, root: Path, rows: Iterator[tuple[str, str, int | str]], limits: Limits) -> None:
        self.name = file.name
        self._root, self._max_bytes = str(root), limits.max_bytes
        self._ids: list[str] = []
        self._paths: list[str] = []
        first: dict[str, int | str] = {}
        for image_id, path, row in rows:
            if image_id in first:
                raise DataError(
                    f"picture id '{printable(image_id)}' is already on row {first[image_id]}",
                    file=file,
                    row=row,
                    fix="list each picture once, or give each its own id",
                )
            first[image_id] = row
            self._ids.append(image_id)
            self._paths.append(path)
        if not self._ids:
            raise DataError("lists no pictures", file=file)

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[str]:
        """All picture ids, in order."""
        return list(self._ids)

    def _item(self, row: int) -> ImageItem:
        path = os.path.join(self._root, self._paths[row])  # noqa: PTH118 - absolute entries stay as they are
        return ImageItem(self._ids[row], printable(path), FileBytes(path, self._max_bytes))


def read_csv(file: Path) -> Iterator[tuple[str, str, int | str]]:
    """Rows (id, path, line number) of a CSV or TSV whose header has image|path|file_name, and perhaps id|image_id."""
    with _open_text(file) as stream:
        rows = csv.DictReader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        try:
            fields = rows.fieldnames or []
            if not any(name in fields for name in PATH_FIELDS):
                raise DataError(f"the header has no column {' or '.join(PATH_FIELDS)}: {fields}", file=file, row=1)
            for row in rows:
                yield *_id_and_path(row, file, rows.line_num), rows.line_num
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"is not readable CSV ({error})", file=file, row=rows.line_num + 1) from error


def read_jsonl(file: Path) -> Iterator[tuple[str, str, int | str]]:
    """Rows (id, path, line number) of JSON lines with image|path|file_name, and optionally id|image_id."""
    with file.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE + 1), b""), start=1):
            if len(line) > _LONGEST_LINE:
                raise DataError(f"the line is longer than {_LONGEST_LINE} bytes", file=file, row=number)
            if not line.strip():
                continue
            row = _parse(line, file, number)
            if not isinstance(row, dict):
                raise DataError("is not a JSON object", file=file, row=number)
            yield *_id_and_path(row, file, number), number


def read_coco(file: Path) -> Iterator[tuple[str, str, int | str]]:
    """Rows of a COCO file: `images[].id` and `images[].file_name`."""
    for row, image in _images(file):
        yield _text(image, "id", file, row), _text(image, "file_name", file, row), row


def read_karpathy(file: Path) -> Iterator[tuple[str, str, int | str]]:
    """Rows of a `dataset_*.json` of the Karpathy splits: `cocoid` (or `imgid`), `filepath` (if any), `filename`."""
    for row, image in _images(file):
        folder = _text(image, "filepath", file, row) if "filepath" in image else ""
        key = "cocoid" if "cocoid" in image else "imgid"
        name = _text(image, "filename", file, row)
        yield _text(image, key, file, row), f"{folder}/{name}" if folder else name, row


def kind_of_json(file: Path) -> str:
    """`coco` or `karpathy`, by the fields of the first picture; raises DataError where it is neither."""
    for row, image in _images(file):
        if "file_name" in image:
            return "coco"
        if "filename" in image:
            return "karpathy"
        raise DataError("has neither 'file_name' (COCO) nor 'filename' (Karpathy)", file=file, row=row)
    raise DataError("lists no pictures", file=file)


def _images(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = _parse(file.read_bytes(), file, None)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise DataError("has no list 'images', so it is neither COCO nor Karpathy JSON", file=file)
    for number, image in enumerate(images):
        row = f"images[{number}]"
        if not isinstance(image, dict):
            raise DataError("is not a JSON object", file=file, row=row)
        yield row, image


def _parse(text: bytes, file: Path, row: int | None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", file=file, row=row) from error


def _id_and_path(row: Mapping[str, Any], file: Path, number: int) -> tuple[str, str]:
    field = next((name for name in PATH_FIELDS if name in row), PATH_FIELDS[0])
    path = _text(row, field, file, number)
    key = next((name for name in ID_FIELDS if name in row), None)
    return (path if key is None else _text(row, key, file, number)), path


def _text(row: Mapping[str, Any], field: str, file: Path, number: int | str) -> str:
    value = row.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise DataError("is missing, empty, or neither text nor a whole number", file=file, row=number, field=field)
    return value


def _open_text(file: Path) -> IO[str]:
    return file.open(encoding="utf-8-sig", newline="")
