"""Large JSON files item by item: a corpus of 400 MB is parsed by Python's own C scanner, but never held as a whole.

`json.loads` of VQA v2's annotations builds ten million objects before the first can be looked at. Here one item is
parsed at a time out of a sliding window of text, so memory stays at a few megabytes whatever the size of the file.
The result and the errors are those of `parse_json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from clipvil.datasets.base import parse_json, read_text
from clipvil.errors import DataError

_WINDOW = 1 << 22  # characters
_BLANK = " \t\n\r"
_GOES_ON = ("", ".", "e", "E")


class _Broken(Exception):
    """The text is not JSON, or ended too early."""


def stream_list(path: str | Path, key: str | None = None) -> Iterator[Any]:
    """The items of a file's list: the file itself, or what stands under `key` of its one object.

    Raises DataError when the file is absent, empty, not strict UTF-8 JSON, or holds no such list.
    """
    yield from _stream(path, key, members=False)


def stream_object(path: str | Path) -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs of a file's object in file order; a key that comes twice comes twice.

    Raises DataError as `stream_list` does.
    """
    yield from _stream(path, None, members=True)


def _stream(path: str | Path, key: str | None, *, members: bool) -> Iterator[Any]:
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            window = _Window(stream, path)
            if members:
                yield from window.members()
            else:
                yield from window.items(key)
            if window.peek():
                raise _Broken
    except (_Broken, OSError, UnicodeDecodeError, RecursionError):
        # Once more, whole: only the ordinary parser can say in which line and column the fault is.
        parse_json(read_text(path), file=path)
        raise DataError("changed while it was being read", file=path) from None


class _Window:
    """A place in a text file from which JSON values are taken one after the other."""

    def __init__(self, stream: TextIO, path: str | Path) -> None:
        self._stream, self._path = stream, path
        self._text, self._at, self._ended = "", 0, False
        # `raw_decode` does no more than call this, with messages that are not needed here.
        self._scan: Any = json.JSONDecoder(parse_constant=self._refuse).scan_once  # type: ignore[attr-defined]

    def _refuse(self, constant: str) -> Any:
        raise DataError(f"{constant} is not JSON", file=self._path)

    def _more(self) -> bool:
        """Read on; False at the end of the file. A value longer than the window doubles it each time."""
        if self._ended:
            return False
        kept = self._text[self._at :]
        new = self._stream.read(max(_WINDOW, len(kept)))
        self._ended = not new
        self._text, self._at = kept + new, 0
        return not self._ended

    def peek(self) -> str:
        """The next character that is not blank, not taken; empty at the end of the file."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _BLANK:
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> bool:
        """Step over `wanted` if it comes next."""
        if self.peek() != wanted:
            return False
        self._at += 1
        return True

    def value(self) -> Any:
        """The next JSON value."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except (StopIteration, json.JSONDecodeError):
                # Either broken or cut by the window's edge; the end of the file tells.
                if not self._more():
                    raise _Broken from None
                continue
            if self._text[end : end + 1] in _GOES_ON and not self._ended:
                # A number cut by the window's edge looks like a shorter one: "1", "1." and "1e" of "1e5".
                self._more()
                continue
            self._at = end
            return value

    def members(self) -> Iterator[tuple[str, Any]]:
        """Key and value of each member of an object."""
        if not self.take("{"):
            self._wrong("an object")
        more = not self.take("}")
        while more:
            yield self._key(), self.value()
            more = self._goes_on("}")

    def items(self, key: str | None) -> Iterator[Any]:
        """Items of the list that comes next, or of the list under `key` of the object that comes next."""
        if key is None:
            if self.peek() != "[":
                self._wrong("a list")
            yield from self._list()
            return
        expected, found = f"an object with a list under '{key}'", False
        if not self.take("{"):
            self._wrong(expected)
        more = not self.take("}")
        while more:
            name = self._key()
            if name == key and self.peek() == "[":
                if found:
                    raise DataError("stands twice", file=self._path, field=key)
                found = True
                yield from self._list()
            else:
                self.value()
            more = self._goes_on("}")
        if not found:
            self._wrong(expected, key)

    def _list(self) -> Iterator[Any]:
        self.take("[")
        more = not self.take("]")
        while more:
            yield self.value()
            more = self._goes_on("]")

    def _goes_on(self, end: str) -> bool:
        """Step over what stands behind a member or an item: whether another one follows."""
        if self.take(","):
            return True
        if self.take(end):
            return False
        raise _Broken

    def _key(self) -> str:
        if self.peek() != '"':
            raise _Broken
        name: str = self.value()
        if not self.take(":"):
            raise _Broken
        return name

    def _wrong(self, expected: str, key: str | None = None) -> None:
        # A file that is no JSON at all should be told so first.
        parse_json(read_text(self._path), file=self._path)
        raise DataError(f"must be {expected}", file=self._path, field=key)
