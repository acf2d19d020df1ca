"""The contract of a picture source, and the source made of items in hand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import overload

from clipvil.errors import DataError, ImageError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
"""File name endings, lower case, by which folders and archives tell pictures from everything else."""


@dataclass(frozen=True)
class ImageItem:
    """One picture that may or may not be readable.

    `image_id` is unique in its source; `where` names the place for people (one printable line); `read()` returns the
    encoded bytes or raises ImageError. Items are small, picklable, and open their file only inside `read`.
    """

    image_id: str
    where: str
    read: Callable[[], bytes]


class ImageSource(Sequence[ImageItem]):
    """Pictures in a fixed order, with unique ids. Items are made on demand, so millions cost little memory."""

    name: str
    """What people call this source: usually the file name of the folder, list or archive."""

    _rows: dict[str, int] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _item(self, row: int) -> ImageItem:
        """The item at a row from 0 to len - 1."""

    @abstractmethod
    def ids(self) -> list[str]:
        """All picture ids, in order."""

    @overload
    def __getitem__(self, index: int) -> ImageItem: ...
    @overload
    def __getitem__(self, index: slice) -> ImageSource: ...
    def __getitem__(self, index: int | slice) -> ImageItem | ImageSource:
        if isinstance(index, slice):
            return _Selection(self, range(len(self))[index])
        return self._item(range(len(self))[index])

    def find(self, image_id: str) -> ImageItem:
        """The item with this id; raises KeyError."""
        return self._item(self._row_of()[image_id])

    def restrict(self, image_ids: Iterable[str]) -> ImageSource:
        """A source of just these pictures, in the order of this one; raises DataError naming one that is unknown."""
        known = self._row_of()
        wanted = set(image_ids)
        missing = sorted(wanted - known.keys())
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(f"no picture with id '{printable(missing[0])}'{more} in {self.name}")
        return _Selection(self, sorted(known[image_id] for image_id in wanted))

    def _row_of(self) -> dict[str, int]:
        if self._rows is None:
            self._rows = {image_id: row for row, image_id in enumerate(self.ids())}
        return self._rows


class _Selection(ImageSource):
    def __init__(self, source: ImageSource, rows: Sequence[int]) -> None:
        self.name, self._source, self._picked = source.name, source, rows

    def __len__(self) -> int:
        return len(self._picked)

    def _item(self, row: int) -> ImageItem:
        return self._source._item(self._picked[row])

    def ids(self) -> list[str]:
        everything = self._source.ids()
        return [everything[row] for row in self._picked]


class ListSource(ImageSource):
    """A source of items in hand. Raises DataError where two share an id."""

    def __init__(self, items: Iterable[ImageItem], name: str = "list") -> None:
        self._items = list(items)
        self.name = name
        require_unique(((item.image_id, item.where) for item in self._items), name)

    def __len__(self) -> int:
        return len(self._items)

    def _item(self, row: int) -> ImageItem:
        return self._items[row]

    def ids(self) -> list[str]:
        """All picture ids, in order."""
        return [item.image_id for item in self._items]


@dataclass(frozen=True)
class Unusable:
    """The `read` of an item that is known to be bad before any byte is read."""

    reason: str
    message: str

    def __call__(self) -> bytes:
        """Raise the ImageError."""
        raise ImageError(self.reason, self.message)


def require_unique(places: Iterable[tuple[str, str]], file: str) -> None:
    """Raise DataError naming both places where an id occurs twice; `places` are (image id, where)."""
    seen: dict[str, str] = {}
    for image_id, where in places:
        first = seen.setdefault(image_id, where)
        if first is not where:
            raise DataError(
                f"picture id '{printable(image_id)}' occurs twice: {first} and {where}",
                file=file,
                fix="give every picture its own id and list each once",
            )


def printable(text: str) -> str:
    """`text` on one line: control characters and undecodable bytes escaped, everything else (emoji too) kept."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def as_id(path: str) -> str:
    """A path as a picture id that any JSON or UTF-8 file can hold: undecodable bytes are escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
