"""What every foreign format is brought to: records by picture, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, overload

from torch import Tensor

from clipvil.encoders.base import CellKind
from clipvil.errors import FeatureError
from clipvil.images.sources.base import printable

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store

Layout = Literal["hwc", "chw"]
IdRule = Literal["stem", "coco"]


@dataclass(frozen=True)
class Options:
    """What a format cannot say itself; each format takes only some of these (`registry.FORMATS`).

    `layout` is the order of the axes of a stored grid, `grid` the (rows, columns) of grids stored flat, `channels` what
    every record must have, `ids` how a file name becomes a picture id, `ids_file` the ids of files that hold none,
    `pooled` whether pooled vectors are taken where there are any.
    """

    layout: Layout | None = None
    grid: tuple[int, int] | None = None
    channels: int | None = None
    ids: IdRule = "stem"
    ids_file: Path | None = None
    pooled: bool = True


@dataclass(frozen=True)
class ForeignRecord:
    """The features of one picture: grid (h, w, C), pooled (D,), both of any float type.

    Regions are a grid of one column, in the file's order; boxes (N, 4) float32 are x1, y1, x2, y2 in pixels; `size` is
    the picture's (height, width), zeros where the file does not say.
    """

    grid: Tensor
    pooled: Tensor | None = None
    boxes: Tensor | None = None
    size: tuple[int, int] = (0, 0)
    cells: CellKind = "grid"


@dataclass(frozen=True)
class ForeignItem:
    """One picture's features, not read yet. `read` raises FeatureError, or OSError."""

    image_id: str
    where: str
    read: Callable[[], ForeignRecord]


class ForeignSource(Sequence[ForeignItem]):
    """Features in a fixed order. Rows whose id came before keep their place, with an id of their own, and fail."""

    def __init__(
        self,
        name: str,
        ids: Sequence[str],
        where: Callable[[int], str],
        read: Callable[[int], ForeignRecord],
    ) -> None:
        """`where` and `read` take a row; `read` may be called from several threads."""
        self.name, self._where, self._read = name, where, read
        self._ids, self._first = _distinct(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[str]:
        """All ids, in order, each once."""
        return list(self._ids)

    @overload
    def __getitem__(self, index: int) -> ForeignItem: ...
    @overload
    def __getitem__(self, index: slice) -> list[ForeignItem]: ...
    def __getitem__(self, index: int | slice) -> ForeignItem | list[ForeignItem]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        where = printable(self._where(index))
        if index in self._first:
            first = self._first[index]
            return ForeignItem(self._ids[index], where, _Twice(where, self._ids[first], printable(self._where(first))))
        return ForeignItem(self._ids[index], where, lambda: self._read(index))


@dataclass(frozen=True)
class _Twice:
    where: str
    image_id: str
    first: str

    def __call__(self) -> ForeignRecord:
        raise FeatureError(
            "duplicate", f"{self.where}: picture '{printable(self.image_id)}' stands in {self.first} already; ignored"
        )


def _distinct(ids: Sequence[str]) -> tuple[list[str], dict[int, int]]:
    """The ids with every repetition renamed, and row of a repetition -> row of the first."""
    first: dict[str, int] = {}
    again: dict[int, int] = {}
    out = list(ids)
    for row, image_id in enumerate(ids):
        if first.setdefault(image_id, row) != row:
            again[row] = first[image_id]
    taken = set(first)
    for row, earlier in again.items():
        number = 2
        while (name := f"{ids[earlier]}#{number}") in taken:
            number += 1
        taken.add(name)
        out[row] = name
    return out, again


class ForeignWriter(Protocol):
    """Writes features in one foreign format. Files appear whole or not at all."""

    def has(self, image_id: str) -> bool:
        """Whether the picture was written by an earlier run."""
        ...

    def write(self, image_id: str, features: Features) -> None:
        """Write one picture's features."""
        ...

    def close(self) -> None:
        """Make everything visible."""
        ...

    def abort(self) -> None:
        """Drop what is half-written."""
        ...


OpenSource = Callable[[Path, Options], ForeignSource]
OpenWriter = Callable[[Path, "Store"], ForeignWriter]
