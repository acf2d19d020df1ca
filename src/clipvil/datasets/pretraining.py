"""Millions of sentences about pictures in a few flat arrays, from which pre-training pairs are made when asked for.

LXMERT's corpus has nine million sentences about 180,000 pictures: 800 MB of Python objects in every worker. Here a
sentence is a slice of one array of UTF-8 bytes, a picture a number, a label a number and a score. The arrays are
memory-mapped files (see `cache`), so that forked workers share them and processes started anew open them again.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt

from clipvil.datasets.cache import Kept, open_kept
from clipvil.datasets.columns import remembered
from clipvil.errors import DataError
from clipvil.records import PretrainingPair
from clipvil.text.numbering import Numbering

Arrays = Mapping[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.int64]
TABLE_VERSION = 1
"""To be raised whenever the arrays change."""
_TABLES = ("picture", "source", "answer")
_COLUMNS: dict[str, str] = {
    "sentence.text": "B",
    "sentence.ends": "Q",
    "picture.codes": "I",
    "source.codes": "B",
    "index": "I",
    "label.ends": "Q",
    "label.codes": "I",
    "label.scores": "d",
}
_SPOOL = 1 << 20
_BLOCK = 1 << 16


class _Column:
    """Values that are appended one by one, into a file without a name: what is not finished leaves nothing behind."""

    def __init__(self, code: str, folder: Path | None) -> None:
        self.code, self.count = code, 0
        self._file = _nameless(folder)
        self._buffer = array(code)

    def append(self, value: Any) -> None:
        self._buffer.append(value)
        self.count += 1
        if len(self._buffer) >= _SPOOL:
            self._flush()

    def extend(self, data: bytes) -> None:
        self._buffer.frombytes(data)
        self.count += len(data)
        if len(self._buffer) >= _SPOOL:
            self._flush()

    def _flush(self) -> None:
        try:
            self._buffer.tofile(self._file)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"the pre-training pairs cannot be kept on disk ({error})",
                fix="free some space, or name another 'cache'",
            ) from None
        del self._buffer[:]

    def finish(self) -> npt.NDArray[Any]:
        dtype = np.dtype(self.code).newbyteorder("<")
        if not self.count:
            return np.empty(0, dtype=dtype)
        self._flush()
        return np.memmap(self._file, dtype=dtype, mode="r", shape=(self.count,))


def _nameless(folder: Path | None) -> IO[bytes]:
    """A file that vanishes with the process; in the usual folder for such files where `folder` cannot be written."""
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError:
        return tempfile.TemporaryFile()


class PretrainingBuilder:
    """Takes pairs one by one; memory stays small, whatever their number. `folder` receives nameless files meanwhile."""

    def __init__(self, folder: Path | None = None) -> None:
        self._columns = {name: _Column(code, folder) for name, code in _COLUMNS.items()}
        self._tables = {name: Numbering() for name in _TABLES}
        self._counts: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return self._columns["sentence.ends"].count

    def add(self, image_id: str, sentence: str, source: str, labels: Mapping[str, float]) -> None:
        """Append one pair; its uid is `<image_id>_<source>_<number>`, counted a picture and source from 0.

        Raises DataError for more than 256 sources.
        """
        columns, tables = self._columns, self._tables
        picture, code = tables["picture"][image_id], tables["source"][source]
        if code > 255:
            raise DataError(f"more than 256 sources of sentences, the last is {source!r}")
        columns["sentence.text"].extend(sentence.encode("utf-8"))
        columns["sentence.ends"].append(columns["sentence.text"].count)
        columns["picture.codes"].append(picture)
        columns["source.codes"].append(code)
        index = self._counts.get((picture, code), 0)
        self._counts[picture, code] = index + 1
        columns["index"].append(index)
        for answer, score in labels.items():
            columns["label.codes"].append(tables["answer"][answer])
            columns["label.scores"].append(score)
        columns["label.ends"].append(columns["label.codes"].count)

    def finish(self) -> PretrainingSequence:
        """The pairs so far, memory-mapped. Raises DataError where two of them would have one uid."""
        self._check_uids()
        arrays = {name: column.finish() for name, column in self._columns.items()}
        for name, numbering in self._tables.items():
            pieces = [text.encode("utf-8") for text in numbering]
            arrays[f"{name}.table"] = np.frombuffer(b"".join(pieces), dtype=np.uint8)
            arrays[f"{name}.table_ends"] = np.cumsum([len(piece) for piece in pieces], dtype=np.uint64)
        return PretrainingSequence(arrays)

    def _check_uids(self) -> None:
        """Picture `1` with source `vqa_a` and picture `1_vqa` with source `a` would both give `1_vqa_a_000`."""
        sources, pictures = self._tables["source"], self._tables["picture"]
        endings = [(long, short) for long in sources for short in sources if long.endswith(f"_{short}")]
        names = list(pictures) if endings else []
        for long, short in endings:
            between = long.removesuffix(short)[:-1]
            for picture, code in self._counts:
                other = f"{names[picture]}_{between}"
                if code == sources[long] and (pictures.get(other, -1), sources[short]) in self._counts:
                    raise DataError(
                        f"sentences of {long!r} about picture {names[picture]!r} and of {short!r} about picture "
                        f"{other!r} would have the same ids, {other}_{short}_000 and so on",
                        fix="give one of the two sources another name",
                    )


class PretrainingSequence(Sequence[PretrainingPair]):
    """Pre-training pairs, all of a table or the `rows` of it that were chosen, in that order.

    `missing` names pictures that were left out because their file is not there.
    """

    key = "uid"

    def __init__(
        self, arrays: Arrays, rows: Rows | None = None, *, kept: Kept | None = None, missing: Sequence[str] = ()
    ) -> None:
        """Raises ValueError or KeyError when the arrays do not fit together."""
        self.arrays, self.rows, self.kept, self.missing = arrays, rows, kept, tuple(missing)
        if rows is None:
            _check(arrays)
        self._tables: dict[str, list[str]] = {}

    @classmethod
    def of(cls, kept: Kept) -> PretrainingSequence:
        """The pairs of a cache entry."""
        return cls(kept.arrays, kept=kept)

    def __reduce__(self) -> Any:
        # A worker that is started anew maps the file itself; only what lies in no file is sent to it.
        arrays = None if self.kept else {name: np.asarray(value) for name, value in self.arrays.items()}
        about = (self.kept.identity, self.kept.path, self.kept.fingerprints) if self.kept else None
        return _again, (arrays, about, self.rows, self.missing)

    def __len__(self) -> int:
        return len(self.arrays["sentence.ends"]) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, index: int) -> PretrainingPair: ...
    @overload
    def __getitem__(self, index: slice) -> list[PretrainingPair]: ...
    def __getitem__(self, index: int | slice) -> PretrainingPair | list[PretrainingPair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = int(index) + len(self) if index < 0 else int(index)
        if not 0 <= place < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        row = self._row(place)
        image, source = self.picture_name(self._code("picture.codes", row)), self._source(row)
        uid = f"{image}_{source}_{int(self.arrays['index'][row]):03d}"
        return PretrainingPair(uid, image, self._sentence(row), source, self._labels(row))

    def __iter__(self) -> Iterator[PretrainingPair]:
        return map(self.__getitem__, range(len(self)))

    def sentence(self, place: int) -> str:
        """The sentence at a place alone."""
        return self._sentence(self._row(place))

    def picture(self, place: int) -> int:
        """The number of the picture of a place: equal numbers are one picture. `picture_name` gives its id."""
        return self._code("picture.codes", self._row(place))

    def picture_name(self, number: int) -> str:
        """The image id of a picture's number."""
        return _piece(self.arrays["picture.table"], self.arrays["picture.table_ends"], number)

    def pictures(self) -> npt.NDArray[np.uint32]:
        """The number of the picture at every place, (len,) uint32."""
        codes: npt.NDArray[np.uint32] = self.arrays["picture.codes"]
        return codes if self.rows is None else codes[self.rows]

    @cached_property
    def by_picture(self) -> tuple[Rows, Rows]:
        """Places sorted by picture, (len,) int64, and where each picture ends among them, (pictures,) int64.

        Pictures come in the order of their numbers; those without a sentence here are left out.
        """
        codes = self.pictures()
        order = np.argsort(codes, kind="stable").astype(np.int64)
        counts = np.bincount(codes) if len(codes) else np.empty(0, dtype=np.int64)
        return order, np.cumsum(counts[counts > 0]).astype(np.int64)

    def mismatch(self, place: int, generator: np.random.Generator) -> int:
        """The place of a sentence about another picture, drawn uniformly from all of them.

        A pure function of the generator's state. Raises DataError when all sentences are about one picture.
        """
        own = self.picture(place)
        while True:
            other = int(generator.integers(len(self)))
            if self.picture(other) != own:
                return other
            # Asked only now: drawing a sentence of the same picture is rare where there is more than one.
            if not self._several:
                raise DataError("all sentences are about one picture, so no sentence of another can be drawn")

    def image_ids(self) -> list[str]:
        """The distinct pictures in order of first use."""
        names = self._table("picture")
        if self.rows is None:
            return list(names)
        codes, first = np.unique(self.pictures(), return_index=True)
        return [names[code] for code in codes[np.argsort(first)].tolist()]

    def sources(self) -> dict[str, int]:
        """How many sentences each source has."""
        codes = self._chosen("source.codes")
        counts = np.bincount(codes, minlength=len(self._table("source")))
        return {name: int(n) for name, n in zip(self._table("source"), counts, strict=True) if n}

    def answer_counts(self) -> dict[str, dict[str, int]]:
        """Source -> answer -> how many of its sentences have that answer among their labels."""
        owner = np.repeat(np.arange(len(self.arrays["label.ends"])), _lengths(self.arrays["label.ends"]))
        codes = self.arrays["label.codes"]
        if self.rows is not None:
            chosen = np.zeros(len(self.arrays["label.ends"]), dtype=bool)
            chosen[self.rows] = True
            codes, owner = codes[chosen[owner]], owner[chosen[owner]]
        source, answers = self.arrays["source.codes"][owner], self._table("answer")
        out = {}
        for number, name in enumerate(self._table("source")):
            counts = np.bincount(codes[source == number], minlength=len(answers))
            out[name] = {answers[i]: int(counts[i]) for i in np.flatnonzero(counts).tolist()}
        return {name: found for name, found in out.items() if found}

    def column(self, name: str) -> list[str]:
        """One field (not `labels`) of all pairs. Pictures and sources cost little, sentences all their text."""
        if name in ("image_id", "source"):
            kind = "picture" if name == "image_id" else "source"
            table = self._table(kind)
            return [table[code] for code in self._chosen(f"{kind}.codes").tolist()]
        if name == "sentence":
            return [self.sentence(place) for place in range(len(self))]
        return [getattr(pair, name) for pair in self]

    def select(self, rows: Rows) -> PretrainingSequence:
        """Some of the pairs, in the order given."""
        chosen = rows if self.rows is None else self.rows[rows]
        return PretrainingSequence(self.arrays, np.ascontiguousarray(chosen), kept=self.kept, missing=self.missing)

    def without(self, missing: Sequence[str], rows: Rows) -> PretrainingSequence:
        """As `select`, and the pictures that were left out by it."""
        found = self.select(rows)
        found.missing = tuple(missing)
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the pairs in order, as packed here; remembered on disk beside a cache entry."""
        identity = self.kept.identity if self.kept else ""
        folder = self.kept.fingerprints if self.kept else None
        whole = remembered((), identity and f"{identity}-pretraining", folder, lambda _: _hash(self.arrays))
        if self.rows is None:
            return whole
        return hashlib.sha256(whole.encode() + self.rows.astype("<i8").tobytes()).hexdigest()

    @cached_property
    def _several(self) -> bool:
        """Whether there is more than one picture; of a large corpus the first block says so, and nothing is kept."""
        codes, first = self.arrays["picture.codes"], self.picture(0)
        for start in range(0, len(self), _BLOCK):
            rows = slice(start, start + _BLOCK) if self.rows is None else self.rows[start : start + _BLOCK]
            if bool((codes[rows] != first).any()):
                return True
        return False

    def _row(self, place: int) -> int:
        return place if self.rows is None else int(self.rows[place])

    def _code(self, name: str, row: int) -> int:
        return int(self.arrays[name][row])

    def _chosen(self, name: str) -> npt.NDArray[Any]:
        return self.arrays[name] if self.rows is None else self.arrays[name][self.rows]

    def _sentence(self, row: int) -> str:
        return _piece(self.arrays["sentence.text"], self.arrays["sentence.ends"], row)

    def _source(self, row: int) -> str:
        return self._table("source")[self._code("source.codes", row)]

    def _labels(self, row: int) -> tuple[tuple[str, float], ...]:
        ends = self.arrays["label.ends"]
        start, end = int(ends[row - 1]) if row else 0, int(ends[row])
        codes, scores = self.arrays["label.codes"][start:end].tolist(), self.arrays["label.scores"][start:end].tolist()
        table, table_ends = self.arrays["answer.table"], self.arrays["answer.table_ends"]
        return tuple((_piece(table, table_ends, code), score) for code, score in zip(codes, scores, strict=True))

    def _table(self, name: str) -> list[str]:
        found = self._tables.get(name)
        if found is None:
            table, ends = self.arrays[f"{name}.table"], self.arrays[f"{name}.table_ends"]
            found = self._tables[name] = [_piece(table, ends, place) for place in range(len(ends))]
        return found


def _again(
    arrays: Arrays | None, about: tuple[str, Path, Path] | None, rows: Rows | None, missing: Sequence[str]
) -> PretrainingSequence:
    """What another process sent. Raises DataError when the file that it mapped is another by now."""
    if about is None:
        assert arrays is not None
        return PretrainingSequence(arrays, rows, missing=missing)
    kept = Kept(open_kept(about[1], about[0]), *about)
    return PretrainingSequence(kept.arrays, rows, kept=kept, missing=missing)


def _piece(text: npt.NDArray[np.uint8], ends: npt.NDArray[np.uint64], place: int) -> str:
    start = int(ends[place - 1]) if place else 0
    return bytes(text[start : int(ends[place])]).decode("utf-8")


def _lengths(ends: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    out: npt.NDArray[np.int64] = ends.astype(np.int64)
    out[1:] -= out[:-1].copy()
    return out


def _hash(arrays: Arrays) -> str:
    digest = hashlib.sha256(f"pretraining {TABLE_VERSION}".encode())
    for name in sorted(arrays):
        digest.update(f"{name} {len(arrays[name])}\n".encode())
        for start in range(0, len(arrays[name]), 1 << 22):
            digest.update(np.ascontiguousarray(arrays[name][start : start + (1 << 22)]).data)
    return digest.hexdigest()


def _check(arrays: Arrays) -> None:
    """Raise ValueError unless every row points into its text or table."""
    n = len(arrays["sentence.ends"])

    def rising(ends: npt.NDArray[Any], last: int) -> bool:
        return (int(ends[-1]) if len(ends) else 0) == last and not bool((ends[1:] < ends[:-1]).any())

    good = rising(arrays["sentence.ends"], len(arrays["sentence.text"]))
    good = good and rising(arrays["label.ends"], len(arrays["label.codes"])) and len(arrays["label.ends"]) == n
    good = good and len(arrays["label.codes"]) == len(arrays["label.scores"]) and len(arrays["index"]) == n
    for name, codes in (("picture", "picture.codes"), ("source", "source.codes"), ("answer", "label.codes")):
        ends = arrays[f"{name}.table_ends"]
        good = good and rising(ends, len(arrays[f"{name}.table"])) and (name == "answer" or len(arrays[codes]) == n)
        good = good and (not len(arrays[codes]) or int(arrays[codes].max()) < len(ends))
    if not good:
        raise ValueError("the arrays of the pre-training pairs do not fit together")
