"""Every picture below a folder."""

from __future__ import annotations

import os
from pathlib import Path

from clipvil.errors import DataError
from clipvil.images.decode import Limits
from clipvil.images.sources.base import (
    IMAGE_SUFFIXES,
    ImageItem,
    ImageSource,
    Unusable,
    as_id,
    printable,
    require_unique,
)
from clipvil.images.sources.files import FileBytes


class FolderSource(ImageSource):
    """Pictures below a folder, by suffix; ids are relative POSIX paths with the extension, sorted.

    Links to files and folders are followed, each real folder once (a cycle ends there). What carries a picture's
    suffix without being one (a directory, a dangling link, a pipe), and folders that cannot be listed, become items
    whose `read` raises, so that they are counted and not lost. Raises DataError where nothing is found.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.name = folder.name or str(folder)
        self._root, self._max_bytes = str(folder), limits.max_bytes
        walk = _Walk(self._root)
        self._closed = walk.closed
        self._paths = sorted([*walk.pictures, *walk.closed])
        if not self._paths:
            raise DataError(
                f"no pictures below this folder (looked for {' '.join(sorted(IMAGE_SUFFIXES))})"
                + ("; it holds .tar files: give 'FOLDER/*.tar' instead" if walk.archives else ""),
                file=folder,
            )
        self._ids = [as_id(path) for path in self._paths]
        require_unique(zip(self._ids, map(repr, self._paths), strict=True), self.name)

    def __len__(self) -> int:
        return len(self._paths)

    def ids(self) -> list[str]:
        """All picture ids, in order."""
        return list(self._ids)

    def _item(self, row: int) -> ImageItem:
        path = os.path.join(self._root, self._paths[row])  # noqa: PTH118 - a Path would normalise the name away
        where = printable(path)
        if self._paths[row] in self._closed:
            problem = Unusable("unreadable", f"{where}: the folder cannot be listed ({self._closed[self._paths[row]]})")
            return ImageItem(self._ids[row], where, problem)
        return ImageItem(self._ids[row], where, FileBytes(path, self._max_bytes))


class _Walk:
    """One pass over real folders first, then over links to folders, so that a real path wins over an alias."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.pictures: list[str] = []
        self.closed: dict[str, str] = {}
        self.archives = 0
        self._visited: set[tuple[int, int]] = set()
        links = self._below("")
        while links:
            links = sorted(deeper for link in links for deeper in self._below(link))

    def _below(self, start: str) -> list[str]:
        """Walk the real folders below `start` (relative to the root); returns the links to folders met."""
        links: list[str] = []
        pending = [start]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(os.path.join(self.root, folder)) as entries:  # noqa: PTH118
                    found = list(entries)
                status = os.stat(os.path.join(self.root, folder))  # noqa: PTH116, PTH118
            except OSError as error:
                self.closed[folder or "."] = error.strerror or str(error)
                continue
            if (status.st_dev, status.st_ino) in self._visited:
                continue
            self._visited.add((status.st_dev, status.st_ino))
            for entry in found:
                relative = f"{folder}/{entry.name}" if folder else entry.name
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                if suffix in IMAGE_SUFFIXES:
                    self.pictures.append(relative)
                self.archives += suffix == ".tar"
                if _is_folder(entry):
                    (links if entry.is_symlink() else pending).append(relative)
        return sorted(links)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False
