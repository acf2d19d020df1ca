"""Many questions in little memory: columns of numbers and text from which records are made when they are asked for.

VQA v2's training questions are 443,757 records with 4.4 million answers. As Python objects they cost a gigabyte and
seconds; as arrays they are 60 MB that a later process maps into memory in milliseconds.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from clipvil.records import Question
from clipvil.text.numbering import Numbering

Arrays = Mapping[str, npt.NDArray[Any]]
# Text that is rarely repeated stands row by row; what repeats stands once, in a table that rows point into.
_PLAIN = ("question_id", "question")
_TABLES = ("image_id", "answers", "answer_type", "question_type", "multiple_choice_answer")


class QuestionBuilder:
    """Takes questions one by one and packs them into arrays."""

    def __init__(self) -> None:
        self._text = {name: bytearray() for name in _PLAIN}
        self._ends = {name: array("Q") for name in _PLAIN}
        self._codes = {name: array("I") for name in _TABLES}
        self._tables = {name: Numbering() for name in _TABLES}
        self._answer_ends = array("Q")
        self._notes: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._answer_ends)

    def add(
        self,
        question_id: str,
        image_id: str,
        question: str,
        answers: Sequence[str] = (),
        answer_type: str = "",
        question_type: str = "",
        multiple_choice_answer: str = "",
    ) -> None:
        """Append one record; the arguments are the fields of `Question`, already checked."""
        for name, text in (("question_id", question_id), ("question", question)):
            self._text[name] += text.encode("utf-8")
            self._ends[name].append(len(self._text[name]))
        codes, tables = self._codes, self._tables
        codes["image_id"].append(tables["image_id"][image_id])
        codes["answers"].extend(map(tables["answers"].__getitem__, answers))
        self._answer_ends.append(len(codes["answers"]))
        codes["answer_type"].append(tables["answer_type"][answer_type])
        codes["question_type"].append(tables["question_type"][question_type])
        codes["multiple_choice_answer"].append(tables["multiple_choice_answer"][multiple_choice_answer])

    def note(self, image_id: str, text: str) -> bool:
        """Remember something about a picture that its records do not say; False when it was noted otherwise before."""
        return self._notes.setdefault(image_id, text) == text

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `Questions` is made of."""
        out: dict[str, npt.NDArray[Any]] = {"answers.ends": _buffer(self._answer_ends, np.uint64)}
        for name in _PLAIN:
            out[f"{name}.text"] = _buffer(self._text[name], np.uint8)
            out[f"{name}.ends"] = _buffer(self._ends[name], np.uint64)
        for name in _TABLES:
            pieces = [text.encode("utf-8") for text in self._tables[name]]
            out[f"{name}.codes"] = _buffer(self._codes[name], np.uint32)
            out[f"{name}.table"] = _buffer(b"".join(pieces), np.uint8)
            out[f"{name}.table_ends"] = np.cumsum([len(piece) for piece in pieces], dtype=np.uint64)
        if self._notes:
            pieces = [self._notes.get(image, "").encode("utf-8") for image in self._tables["image_id"]]
            out["notes.text"] = _buffer(b"".join(pieces), np.uint8)
            out["notes.ends"] = np.cumsum([len(piece) for piece in pieces], dtype=np.uint64)
        return out

    def finish(self) -> Questions:
        """The records so far."""
        return Questions(self.arrays())


class QuestionSequence(Sequence[Question]):
    """Questions that are made when they are asked for.

    `key` is the field that tells records apart. `identity` names what was read (a hash over source files and choice of
    rows), empty when unknown; `fingerprints` is a folder in which hashes over the records are remembered by identity.
    """

    key = "question_id"
    identity: str = ""
    fingerprints: Path | None = None

    @abstractmethod
    def record(self, place: int) -> Question:
        """The record at a place in 0..len-1."""

    @abstractmethod
    def column(self, name: str) -> list[str]:
        """One field (not `answers`) of all records, without making the records."""

    def image_ids(self) -> list[str]:
        """The distinct pictures in order of first use."""
        return list(dict.fromkeys(self.column("image_id")))

    def select(self, rows: npt.NDArray[np.int64]) -> Selected:
        """Some of the records, in the order given."""
        return Selected(self, rows)

    @cached_property
    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`; remembered on disk where the source files can be recognised."""
        return remembered(self, self.identity, self.fingerprints)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> list[Question]: ...
    def __getitem__(self, index: int | slice) -> Question | list[Question]:
        if isinstance(index, slice):
            return [self.record(i) for i in range(*index.indices(len(self)))]
        place = int(index) + len(self) if index < 0 else int(index)
        if not 0 <= place < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self.record(place)

    def __iter__(self) -> Iterator[Question]:
        return map(self.record, range(len(self)))


class Questions(QuestionSequence):
    """The records of one corpus file, in file order, from the arrays of a `QuestionBuilder`."""

    def __init__(self, arrays: Arrays, *, identity: str = "", fingerprints: Path | None = None) -> None:
        """Raises ValueError or KeyError when the arrays do not fit together."""
        self.arrays, self.identity, self.fingerprints = arrays, identity, fingerprints
        self._n = len(arrays["answers.ends"])
        _check(arrays, self._n)
        self._tables: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return self._n

    def record(self, place: int) -> Question:
        """The record at a place in 0..len-1."""
        ends = self.arrays["answers.ends"]
        codes = self.arrays["answers.codes"][int(ends[place - 1]) if place else 0 : int(ends[place])]
        said = self.table("answers")
        return Question(
            self._plain("question_id", place),
            self._coded("image_id", place),
            self._plain("question", place),
            tuple([said[code] for code in codes.tolist()]),
            self._coded("answer_type", place),
            self._coded("question_type", place),
            self._coded("multiple_choice_answer", place),
        )

    def _plain(self, name: str, place: int) -> str:
        ends = self.arrays[f"{name}.ends"]
        start = int(ends[place - 1]) if place else 0
        return bytes(self.arrays[f"{name}.text"][start : int(ends[place])]).decode("utf-8")

    def _coded(self, name: str, place: int) -> str:
        return self.table(name)[int(self.arrays[f"{name}.codes"][place])]

    def table(self, name: str) -> list[str]:
        """The distinct strings of a column, by their code."""
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = _split(self.arrays[f"{name}.table"], self.arrays[f"{name}.table_ends"])
        return found

    def column(self, name: str) -> list[str]:
        """One field (not `answers`) of all records, without making the records."""
        if name in _PLAIN:
            return _split(self.arrays[f"{name}.text"], self.arrays[f"{name}.ends"])
        table = self.table(name)
        return [table[code] for code in self.arrays[f"{name}.codes"].tolist()]

    def image_ids(self) -> list[str]:
        """The distinct pictures in order of first use."""
        return list(self.table("image_id"))

    def notes(self) -> dict[str, str]:
        """What was noted about each picture; empty when nothing was."""
        if "notes.ends" not in self.arrays:
            return {}
        return dict(zip(self.image_ids(), _split(self.arrays["notes.text"], self.arrays["notes.ends"]), strict=True))


class Selected(QuestionSequence):
    """Some rows (int64) of other records, in the order given."""

    def __init__(self, base: QuestionSequence, rows: npt.NDArray[np.int64]) -> None:
        self.base, self.rows = base, rows
        self.fingerprints = base.fingerprints
        digest = hashlib.sha256(base.identity.encode() + np.ascontiguousarray(rows, dtype="<i8").tobytes())
        self.identity = digest.hexdigest() if base.identity else ""

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, place: int) -> Question:
        """The record at a place in 0..len-1."""
        return self.base.record(int(self.rows[place]))

    def column(self, name: str) -> list[str]:
        """One field (not `answers`) of all records."""
        whole = self.base.column(name)
        return [whole[row] for row in self.rows.tolist()]


class Joined(QuestionSequence):
    """Several lists of records one after the other."""

    def __init__(self, parts: Sequence[Questions | Selected]) -> None:
        self.parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.fingerprints = parts[0].fingerprints
        names = [part.identity for part in parts]
        self.identity = hashlib.sha256("\n".join(names).encode()).hexdigest() if all(names) else ""

    def __len__(self) -> int:
        return int(self._starts[-1])

    def record(self, place: int) -> Question:
        """The record at a place in 0..len-1."""
        which = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self.parts[which].record(place - int(self._starts[which]))

    def column(self, name: str) -> list[str]:
        """One field (not `answers`) of all records."""
        return [value for part in self.parts for value in part.column(name)]


def column_of(records: Sequence[Any], name: str) -> list[str]:
    """One field of all records; of records that are made when asked for, without making them."""
    column = getattr(records, "column", None)
    if column is not None:
        return list(column(name))
    return [getattr(record, name) for record in records]


def rows_of(records: Sequence[Any], rows: Sequence[int]) -> Sequence[Any]:
    """Some of the records, in the order given; records that are made when asked for stay so."""
    select = getattr(records, "select", None)
    if select is not None:
        chosen: Sequence[Any] = select(np.asarray(rows, dtype=np.int64))
        return chosen
    return [records[row] for row in rows]


def remembered(
    records: Iterable[Any], identity: str, folder: Path | None, compute: Callable[[Any], str] | None = None
) -> str:
    """The hash over the records, from `folder` when it was computed before, and kept there."""
    from clipvil.datasets.base import fingerprint_of
    from clipvil.files import atomic_write

    path = folder / f"{identity}.sha256" if identity and folder is not None else None
    if path is not None and path.is_file():
        text = path.read_text(encoding="ascii", errors="replace").strip()
        if len(text) == 64 and set(text) <= set("0123456789abcdef"):
            return text
    value = (compute or fingerprint_of)(records)
    if path is not None:
        try:
            with atomic_write(path) as stream:
                stream.write(value.encode("ascii") + b"\n")
        except OSError:
            pass  # it is only remembered to save time
    return value


def find_double(ids: Sequence[str]) -> tuple[int, int] | None:
    """The first place at which an id stands again, and where it stood before; None when all differ.

    By hash and order, which costs 16 bytes an id: a table of fourteen million strings would cost two gigabytes.
    """
    hashes = np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))
    order = np.argsort(hashes, kind="stable")
    again = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    pairs = ((int(order[i + 1]), int(order[i])) for i in again)
    return min(((late, early) for late, early in pairs if ids[late] == ids[early]), default=None)


def _buffer(values: bytearray | bytes | array[int], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.frombuffer(values, dtype=kind) if len(values) else np.empty(0, dtype=kind)


def _split(text: npt.NDArray[np.uint8], ends: npt.NDArray[np.uint64]) -> list[str]:
    whole = text.tobytes()
    out, start = [], 0
    for end in ends.tolist():
        out.append(whole[start:end].decode("utf-8"))
        start = end
    return out


def _check(arrays: Arrays, n: int) -> None:
    """Raise ValueError unless every row points into its text or table."""

    def rising(ends: npt.NDArray[Any], last: int) -> bool:
        return (int(ends[-1]) if len(ends) else 0) == last and not bool((ends[1:] < ends[:-1]).any())

    good = rising(arrays["answers.ends"], len(arrays["answers.codes"]))
    for name in _PLAIN:
        ends = arrays[f"{name}.ends"]
        good = good and len(ends) == n and rising(ends, len(arrays[f"{name}.text"]))
    for name in _TABLES:
        codes, ends = arrays[f"{name}.codes"], arrays[f"{name}.table_ends"]
        good = good and (name == "answers" or len(codes) == n) and rising(ends, len(arrays[f"{name}.table"]))
        good = good and (not len(codes) or int(codes.max()) < len(ends))
    if not good:
        raise ValueError("the arrays of the questions do not fit together")
