"""Many VCR questions in little memory: where their lines begin, and the boxes; records are made when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from clipvil.datasets.base import Row, fingerprint_of
from clipvil.errors import DataError
from clipvil.records import Commonsense

if TYPE_CHECKING:
    from clipvil.datasets.vcr import Metadata


@dataclass(frozen=True, slots=True)
class Line:
    """One question in its file: the byte at which its line begins, the line's number, ids, and its metadata file."""

    start: int
    row: int
    annotation_id: str
    image_id: str
    metadata: str


class CommonsenseSequence(Sequence[Commonsense]):
    """The questions of a file that `clipvil.datasets.vcr.read_vcr` has checked, in its order or some of them."""

    key = "annotation_id"

    def __init__(
        self, path: Path, lines: Sequence[Line], files: Mapping[str, str], metadata: Mapping[str, Metadata]
    ) -> None:
        """`files` maps every picture to its `img_fn`; `metadata` is empty where no boxes are wanted."""
        self.path, self.lines = path, lines
        self._files, self._metadata = files, metadata

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> Commonsense: ...
    @overload
    def __getitem__(self, index: slice) -> list[Commonsense]: ...
    def __getitem__(self, index: int | slice) -> Commonsense | list[Commonsense]:
        if isinstance(index, slice):
            return [self._record(line) for line in self.lines[index]]
        return self._record(self.lines[index])

    def __iter__(self) -> Iterator[Commonsense]:
        return map(self._record, self.lines)

    def column(self, name: str) -> list[str]:
        """`annotation_id` or `image_id` of all questions, without making the records; other fields by making them."""
        if name in ("annotation_id", "image_id"):
            return [getattr(line, name) for line in self.lines]
        return [getattr(record, name) for record in self]

    def image_ids(self) -> list[str]:
        """The distinct pictures in order of first use."""
        return list(dict.fromkeys(line.image_id for line in self.lines))

    def files(self) -> dict[str, str]:
        """The `img_fn` of each picture, in order of first use."""
        return {image: self._files[image] for image in self.image_ids()}

    def select(self, rows: npt.NDArray[np.int64]) -> CommonsenseSequence:
        """Some of the questions, in the order given."""
        return CommonsenseSequence(self.path, [self.lines[row] for row in rows], self._files, self._metadata)

    @cached_property
    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`."""
        return fingerprint_of(self)

    def _record(self, line: Line) -> Commonsense:
        from clipvil.datasets.vcr import parse_row

        try:
            record = parse_row(Row(json.loads(self._read(line.start)), self.path, line.row))
        except (OSError, ValueError) as error:
            raise DataError(f"changed while it was in use ({error})", file=self.path, row=line.row) from None
        found = self._metadata.get(line.metadata)
        return record if found is None else replace(record, boxes=found.boxes, size=found.size)

    def _read(self, start: int) -> str:
        # Opened for each line: forked workers that inherit an open file share its place with the parent.
        with self.path.open("rb") as stream:
            stream.seek(start)
            return stream.readline().decode("utf-8-sig")
