"""Ids of the pictures of a bottom-up HDF5 file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipvil.errors import DataError, UsageError

_NAMES = ("image_ids", "ids", "image_id")


def read_ids(file: Any, place: Path, ids_file: Path | None, count: int) -> list[str]:
    """The id of each of `count` pictures, from `ids_file` or from a dataset `image_ids` of the file.

    `ids_file` is JSON, {id: row} or a list in order, or text with one id a line. Raises DataError, UsageError.
    """
    if ids_file is not None:
        ids, where = _from_file(ids_file, count), str(ids_file)
    else:
        name = next((name for name in _NAMES if name in file), None)
        if name is None:
            raise UsageError(
                f"{place}: does not say which pictures it holds; give --ids-file with JSON {{id: row}}, made from the "
                "*_imgid2idx.pkl beside it in a Python of your own: json.dump(pickle.load(f), g)"
            )
        if len(file[name]) > 1 << 26:
            raise DataError(f"{len(file[name])} ids", file=place, field=name)
        ids, where = [_text(value) for value in file[name][...].tolist()], f"{place}[{name}]"
    if len(ids) != count:
        raise DataError(f"{len(ids)} ids for {count} pictures", file=where)
    return ids


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _from_file(path: Path, count: int) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot be read as UTF-8 text ({error})", file=path, fix="a pickle must be turned into JSON first"
        ) from None
    if not text.lstrip().startswith(("{", "[")):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("not JSON", file=path) from None
    if isinstance(value, list):
        return [str(item) for item in value]
    rows: list[str | None] = [None] * count
    for image_id, row in value.items():
        if type(row) is not int or not 0 <= row < count or rows[row] is not None:
            raise DataError(f"row {row!r} of id '{image_id}' is no free row of {count}", file=path)
        rows[row] = image_id
    missing = next((row for row, image_id in enumerate(rows) if image_id is None), None)
    if missing is not None:
        raise DataError(f"no id for row {missing}", file=path)
    return [str(image_id) for image_id in rows]
