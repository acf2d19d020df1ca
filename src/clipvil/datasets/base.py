"""What every reader returns, and the checks that readers share."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipvil.errors import DataError

if TYPE_CHECKING:
    from clipvil.images.sources import ImageSource
    from clipvil.simulator.graph import Graph

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Dataset:
    """One split of one corpus: typed records in file order, and where the pictures they use are.

    `pictures` maps each used image id to its file, in order of first use; nothing has been opened yet.
    """

    name: str
    split: str
    records: Sequence[Any]
    pictures: Mapping[str, Path] = field(repr=False)
    graphs: Mapping[str, Graph] | None = field(default=None, repr=False)
    """Of navigation: where one can walk, by scan; None where the corpus names none."""

    @cached_property
    def images(self) -> ImageSource:
        """The used pictures, ready to be extracted."""
        from clipvil.images.decode import Limits
        from clipvil.images.sources import ImageItem, ListSource
        from clipvil.images.sources.base import printable
        from clipvil.images.sources.files import FileBytes

        largest = Limits().max_bytes
        return ListSource(
            (
                ImageItem(image_id, printable(str(path)), FileBytes(str(path), largest))
                for image_id, path in self.pictures.items()
            ),
            name=f"{self.name}/{self.split}",
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the records in order; the same records give the same value wherever the files lie."""
        # Records that lie in a cache remember it: computing it takes longer than opening them.
        known = getattr(self.records, "fingerprint", None)
        return known if isinstance(known, str) else fingerprint_of(self.records)


def fingerprint_of(records: Iterable[Any]) -> str:
    """SHA-256 (hex) over records in order."""
    digest = hashlib.sha256()
    for record in records:
        # `vars` and not `asdict`, whose deep copies cost more than reading the corpus.
        digest.update(json.dumps([type(record).__name__, vars(record)], sort_keys=True).encode("ascii"))
        digest.update(b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class Overlap:
    """How many pictures two splits share."""

    pictures: int


def check_splits(train: Dataset, other: Dataset, *, key: str = "question_id") -> Overlap:
    """Compare an evaluation split with the training split.

    Raises DataError when they share a record id: the result would be measured on training data. Shared pictures are
    allowed (some corpora split by question) but counted, so that the caller can say so.
    """
    seen = {getattr(record, key) for record in train.records}
    double = next((getattr(record, key) for record in other.records if getattr(record, key) in seen), None)
    if double is not None:
        raise DataError(
            f"{key} {double} of the split '{other.split}' is also in the split '{train.split}'",
            fix="evaluate on records that were not trained on, or give the records ids that are unique",
        )
    return Overlap(len(train.pictures.keys() & other.pictures.keys()))


def read_text(path: str | Path) -> str:
    """A UTF-8 text file, byte order mark removed. Raises DataError when it is absent, empty or not UTF-8."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as UTF-8 text ({error})", file=path) from None
    if not text.strip():
        raise DataError("is empty", file=path)
    return text


def parse_json(
    text: str, *, file: str | Path, row: int | None = None, object_hook: Any = None, object_pairs_hook: Any = None
) -> Any:
    """Strict JSON: NaN and Infinity are refused. Raises DataError saying where it breaks."""

    def refuse(constant: str) -> Any:
        raise DataError(f"{constant} is not JSON", file=file, row=row)

    try:
        return json.loads(text, parse_constant=refuse, object_hook=object_hook, object_pairs_hook=object_pairs_hook)
    except json.JSONDecodeError as error:
        # A row of JSON lines is a line of its file; the lines inside it are no help.
        line = error.lineno if row is None else None
        # A string that nothing closes runs to the end, wherever it began.
        cut = error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated string")
        fix = "the file seems to be cut off; fetch it again" if cut else ""
        what = f"not valid JSON: {error.msg} at column {error.colno}"
        raise DataError(what, file=file, row=row, line=line, fix=fix) from None
    except RecursionError:
        raise DataError("JSON nested too deeply", file=file, row=row) from None


class Row:
    """One object of a data file with typed access to its fields; every error names file, row and field."""

    def __init__(self, value: Any, file: str | Path, row: int) -> None:
        self.file, self.row = file, row
        if not isinstance(value, Mapping):
            raise DataError(f"must be an object, not {_kind(value)}", file=file, row=row)
        self.value: Mapping[str, Any] = value

    def error(self, what: str, name: str | None = None, fix: str = "") -> DataError:
        """A DataError about this row."""
        return DataError(what, file=self.file, row=self.row, field=name, fix=fix)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.value.get(name) is not None

    def raw(self, name: str) -> Any:
        """The field as it stands; DataError when it is missing or null."""
        if name not in self.value:
            raise self.error("is missing", name)
        if self.value[name] is None:
            raise self.error("is null", name)
        return self.value[name]

    def text(self, name: str, *, default: str | None = None, empty: bool = False) -> str:
        """A string; must not be blank unless `empty`. `default` serves when the field is missing or null."""
        if default is not None and not self.has(name):
            return default
        return self.checked_text(self.raw(name), name, empty=empty)

    def checked_text(self, value: Any, name: str, *, empty: bool = False) -> str:
        """Check that `value` is a usable string."""
        if not isinstance(value, str):
            raise self.error(f"must be a string, not {_kind(value)}", name)
        if not empty and not value.strip():
            raise self.error("is empty", name)
        if not value.isascii() and _SURROGATE.search(value):
            raise self.error("holds half a Unicode character (a lone surrogate)", name)
        return value

    def identifier(self, name: str) -> str:
        """An id: a string that is not blank or a whole number, returned as a string."""
        value = self.raw(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str):
            return self.checked_text(value, name)
        raise self.error(f"must be a whole number or a string, not {_kind(value)}", name)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def iter_rows(path: str | Path, required: Sequence[str] = (), optional: Sequence[str] = ()) -> Iterator[Row]:
    """Rows of a `.csv`, `.tsv`, `.jsonl` or `.json` (one list of objects) file, numbered as an editor shows them.

    JSONL rows are lines; CSV rows are the line a record ends on; JSON rows count objects from 1. `required`
    are the columns that the header of a table must name, `optional` those that it must not name in other letters.
    """
    kind = Path(path).suffix.lower()
    text = read_text(path)
    if kind in (".csv", ".tsv"):
        yield from csv_rows(text, path, "\t" if kind == ".tsv" else ",", required, optional)
    elif kind == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield Row(parse_json(line, file=path, row=number), path, number)
    elif kind == ".json":
        value = parse_json(text, file=path)
        if not isinstance(value, list):
            raise DataError(f"must hold a list of objects, not {_kind(value)}", file=path)
        for number, item in enumerate(value, start=1):
            yield Row(item, path, number)
    else:
        raise DataError(f"unknown kind of file '{kind}'", file=path, fix="use .csv, .tsv, .jsonl or .json")


LONGEST = 1 << 24
"""Bytes of a line of JSON, at most: a file without line breaks must not fill the memory."""


def json_lines(path: str | Path) -> Iterator[tuple[int, Row]]:
    """The rows of a large file of JSON lines, each with the byte at which its line begins; one line is held at a time.

    Raises DataError as it reads: no such file, no text, no JSON, a line of more than `LONGEST` bytes.
    """
    number = start = 0
    try:
        with Path(path).open("rb") as stream:
            while line := stream.readline(LONGEST + 1):
                number += 1
                if len(line) > LONGEST:
                    raise DataError(f"a line of more than {LONGEST >> 20} MiB", file=path, row=number)
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    yield start, Row(parse_json(text, file=path, row=number), path, number)
                start += len(line)
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text ({error.reason})", file=path, row=number) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error})", file=path) from None


def csv_rows(
    text: str, path: str | Path, delimiter: str, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> Iterator[Row]:
    """Rows of a table that was read already; its first line names the columns, as `iter_rows` wants them."""
    if "\0" in text:
        raise DataError("holds a NUL byte, so it is not a text table", file=path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        if len(set(header)) != len(header):
            raise DataError("two columns have the same name", file=path, row=1)
        _check_header(header, required, optional, path, delimiter)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{len(cells)} cells, but the header names {len(header)} columns",
                    file=path,
                    row=reader.line_num,
                    fix="put quotes around cells that hold a comma",
                )
            # An empty cell is the only way a table can say that a value is absent.
            yield Row({k: c for k, c in zip(header, cells, strict=True) if c.strip()}, path, reader.line_num)
    except csv.Error as error:
        raise DataError(f"not a valid table: {error}", file=path, row=reader.line_num) from None


_SIGNS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "upright lines"}


def _check_header(
    header: Sequence[str], required: Sequence[str], optional: Sequence[str], path: str | Path, delimiter: str
) -> None:
    """Raise DataError where a column is not named as it must be, guessing at what went wrong."""
    known = {*required, *optional}
    misspelt = [name for name in header if name not in known and name.casefold() in known - set(header)]
    lacking = [name for name in required if name not in header]
    if misspelt:
        right = ", ".join(name.casefold() for name in misspelt)
        raise DataError(f"the header names {', '.join(misspelt)}", file=path, row=1, fix=f"write {right} instead")
    if lacking:
        other = next((sign for sign in _SIGNS if len(header) == 1 and sign in header[0]), None)
        fix = "the first row must name the columns"
        if other is not None:
            fix = f"its cells seem to be parted by {_SIGNS[other]}, not by {_SIGNS[delimiter]}: save it anew"
        what = f"the header lacks {' and '.join(lacking)}; it has {', '.join(header)}"
        raise DataError(what, file=path, row=1, fix=fix)


def option(data: Mapping[str, Any], name: str, where: str = "data") -> Any:
    """A required entry of a recipe's data section; DataError when it is missing."""
    if data.get(name) is None:
        raise DataError(f"the recipe's {where} section lacks '{name}'", field=name)
    return data[name]


def option_path(data: Mapping[str, Any], name: str, default: str | Path | None = None, *, where: str = "data") -> Path:
    """An entry that names a file or folder, required where there is no `default`; DataError for anything else."""
    value = option(data, name, where) if default is None or data.get(name) is not None else default
    if not isinstance(value, str | Path) or not str(value):
        raise _wrong(value, name, where, "the name of a file or folder", "put a name of digits alone in quotes")
    return Path(value)


def option_text(data: Mapping[str, Any], name: str, default: str, *, where: str = "data") -> str:
    """An optional entry that is text. Raises DataError for anything else."""
    value = default if data.get(name) is None else data[name]
    if not isinstance(value, str):
        raise _wrong(value, name, where, "text", "put it in quotes")
    return value


def option_int(data: Mapping[str, Any], name: str, default: int, *, where: str = "data") -> int:
    """An optional entry that is a whole number. Raises DataError for anything else."""
    value = default if data.get(name) is None else data[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(value, name, where, "a whole number")
    return value


def _wrong(value: Any, name: str, where: str, wanted: str, fix: str = "") -> DataError:
    plain = isinstance(value, str | bool | int | float)
    got = repr(value) if plain else _kind(value)
    return DataError(f"must be {wanted}, not {got}", field=f"{where}.{name}", fix=fix if plain and value != "" else "")


def known(data: Mapping[str, Any], names: Iterable[str], where: str = "data") -> None:
    """Raise DataError for an entry that is not among `names`, with the nearest right one."""
    names = list(names)
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            fix = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(names)}"
            raise DataError(f"the recipe's {where} section has an unknown entry '{key}'", fix=fix)
