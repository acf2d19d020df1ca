"""Writing one file a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from clipvil.features.foreign.listing import check_file_ids
from clipvil.files import atomic_write

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store

Fill = Callable[[IO[bytes], "Features"], None]


class FileWriter:
    """A folder with one file a picture, or several folders with one each. A file that is there is whole."""

    def __init__(self, store: Store, parts: dict[tuple[Path, str], Fill]) -> None:
        """`parts`: (folder, suffix) -> what fills such a file. Raises UsageError for ids that are no file names."""
        check_file_ids(store.ids())
        self._parts = parts

    def has(self, image_id: str) -> bool:
        """Whether all its files are there."""
        return all((folder / f"{image_id}{suffix}").exists() for folder, suffix in self._parts)

    def write(self, image_id: str, features: Features) -> None:
        """Write its files."""
        for (folder, suffix), fill in self._parts.items():
            with atomic_write(folder / f"{image_id}{suffix}") as stream:
                fill(stream, features)

    def close(self) -> None:
        """Nothing is left to do: every file was whole when it appeared."""

    def abort(self) -> None:
        """Nothing half-written is left."""
