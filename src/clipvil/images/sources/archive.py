"""What tar and zip sources share: which members count, under which id, what is refused, and a compact table of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clipvil.errors import DataError
from clipvil.images.sources.base import IMAGE_SUFFIXES, ImageItem, ImageSource, Unusable, as_id, printable

MAX_MEMBERS = 20_000_000
"""Pictures that an archive, or a set of shards, may hold."""

Reader = Callable[[], bytes]


@dataclass(frozen=True)
class Member:
    """One picture-like member: its id, the number of its archive, where its bytes are, or why it is refused."""

    image_id: str
    archive: int
    place: tuple[int, ...] = ()
    refused: Unusable | None = None


class ArchiveSource(ImageSource):
    """Members of archives in archive order, kept as columns (about 150 bytes each).

    `reader(path, place, where)` makes the `read` of an item. Raises DataError for a double id, for more than
    MAX_MEMBERS, and where nothing readable is found.
    """

    def __init__(
        self,
        name: str,
        archives: list[str],
        members: Iterable[Member],
        reader: Callable[[str, tuple[int, ...], str], Reader],
    ) -> None:
        self.name, self._archives, self._reader = name, archives, reader
        self._ids: list[str] = []
        self._archive_of = array("L")
        self._places: list[array[int]] = []
        self._refused: dict[int, Unusable] = {}
        rows: dict[str, int] = {}
        for member in members:
            row = len(self._ids)
            if row >= MAX_MEMBERS:
                raise DataError(f"more than {MAX_MEMBERS} pictures", file=name, fix="extract fewer shards at a time")
            self._append(row, member)
            first = rows.setdefault(member.image_id, row)
            if first != row:
                both = f"{self._where(first)} and {self._where(row)}"
                raise DataError(
                    f"picture id '{printable(member.image_id)}' occurs twice: {both}",
                    file=name,
                    fix="rename one, or extract the archives into stores of their own",
                )
        self._rows = rows
        if not self._ids:
            raise DataError(f"holds no pictures (looked for {' '.join(sorted(IMAGE_SUFFIXES))})", file=name)

    def _append(self, row: int, member: Member) -> None:
        self._ids.append(member.image_id)
        self._archive_of.append(member.archive)
        if member.refused is not None:
            self._refused[row] = member.refused
        while len(self._places) < len(member.place):
            self._places.append(array("q", bytes(8 * row)))
        for number, column in enumerate(self._places):
            column.append(member.place[number] if number < len(member.place) else 0)

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[str]:
        """All picture ids, in order."""
        return list(self._ids)

    def _where(self, row: int) -> str:
        return printable(f"{self._archives[self._archive_of[row]]}:{self._ids[row]}")

    def _item(self, row: int) -> ImageItem:
        where = self._where(row)
        if row in self._refused:
            return ImageItem(self._ids[row], where, self._refused[row])
        place = tuple(column[row] for column in self._places)
        return ImageItem(self._ids[row], where, self._reader(self._archives[self._archive_of[row]], place, where))


def is_picture_name(name: str) -> bool:
    """Whether a member's name ends like a picture's; the resource forks that macOS adds do not count."""
    last = name.rstrip("/").rsplit("/", 1)[-1]
    dot = last.rfind(".")
    return dot > 0 and last[dot:].lower() in IMAGE_SUFFIXES and not name.startswith("__MACOSX/")


def member_id(name: str) -> str:
    """A member's name as picture id: without the leading `./` that tar writes, as UTF-8."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return as_id(name)


def refuse(where: str, why: str, reason: str = "unsupported") -> Unusable:
    """The `read` of a member that will not be read."""
    return Unusable(reason, f"{printable(where)}: {why}")


def unsafe_name(name: str) -> str | None:
    """Why a member's name is refused, or None. Nothing is ever unpacked; such names are a sign of a hostile archive."""
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        return "its name is an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "its name climbs out of the archive with '..'"
    return None
