"""What the readers of navigation corpora share: rows of any of their files, checks of paths, splits, lists of ids."""

from __future__ import annotations

import gzip
import itertools
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clipvil.datasets import connectivity
from clipvil.datasets.base import Dataset, Row, known, option_path, parse_json, read_text
from clipvil.datasets.selection import read_ids
from clipvil.errors import DataError
from clipvil.records import Episode
from clipvil.simulator.graph import Graph, find_graph

GraphMap = Mapping[str, Graph]
Read = Callable[[Path, Mapping[str, Any], GraphMap | None], list[Episode]]
_WORD = re.compile(r"\w")
COMMON = ("format", "root", "graphs")
ENTRIES = ("episodes", "ids", "exclude")


def episode_rows(path: str | Path) -> Iterator[Row]:
    """Rows of a JSON list or of JSON lines, either of them gzipped or not, whatever the file is called.

    Raises DataError for a damaged file; a row is a line of JSON lines, or counts the objects of a list from 1.
    """
    path = Path(path)
    compressed = path.is_file() and path.open("rb").read(2) == b"\x1f\x8b"
    if not compressed and path.suffix == ".json":
        value = parse_json(read_text(path), file=path)
        if not isinstance(value, list):
            raise DataError("must hold a list of objects", file=path)
        yield from (Row(item, path, number) for number, item in enumerate(value, start=1))
        return
    found = False
    for number, line in _lines(path, compressed):
        if line.lstrip().startswith("[") and not found:
            # The pre-processed RxR files of CLIP-ViL are called .jsonl and hold one list.
            rest = "".join([line, *(more for _, more in _lines(path, compressed, after=number))])
            value = parse_json(rest, file=path)
            yield from (Row(item, path, place) for place, item in enumerate(value, start=1))
            return
        if line.strip():
            found = True
            yield Row(parse_json(line, file=path, row=number), path, number)
    if not found:
        raise DataError("is empty", file=path)


def _lines(path: Path, compressed: bool, after: int = 0) -> Iterator[tuple[int, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if compressed else path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if number > after:
                    yield number, line
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot be read as {'gzipped ' if compressed else ''}UTF-8 text ({error})", file=path
        ) from None


def path_of(row: Row, graphs: GraphMap | None, name: str = "path") -> tuple[str, ...]:
    """The reference path of a row, each step of which must be an edge where `graphs` are given. Raises DataError."""
    path = row.raw(name)
    if not isinstance(path, list) or not path:
        raise row.error("must be a list of viewpoint ids, not empty", name)
    for viewpoint in path:
        row.checked_text(viewpoint, name)
    if graphs is not None:
        scan = row.text("scan")
        try:
            graph = find_graph(graphs, scan)
        except DataError as error:
            raise row.error(str(error), "scan") from None
        try:
            check_path(graph, path)
        except DataError as error:
            raise row.error(str(error), name) from None
    return tuple(path)


def check_path(graph: Graph, path: Sequence[str]) -> None:
    """Raise DataError for a viewpoint that the graph does not include and for a step that is no edge."""
    numbers = [graph.find(viewpoint) for viewpoint in path]
    for here, there in itertools.pairwise(numbers):
        if here != there and not graph.adjacent[here, there]:
            raise DataError(f"no edge from {graph.viewpoints[here]} to {graph.viewpoints[there]}")


def heading_of(row: Row) -> float:
    """The start heading of a row in radians. Raises DataError."""
    value = row.raw("heading")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise row.error("must be a finite number (radians)", "heading")
    return float(value)


def words_of(row: Row, value: Any, name: str) -> str:
    """An instruction that holds at least one word. Raises DataError."""
    text = row.checked_text(value, name, empty=True)
    if not _WORD.search(text):
        raise row.error(f"an instruction with no words: {text[:40]!r}", name, "drop the row, or write the instruction")
    return text


def check_unique(rows: Iterable[tuple[Row, Episode]]) -> list[Episode]:
    """The episodes; raises DataError where an id comes twice."""
    seen: dict[str, int] = {}
    out = []
    for row, episode in rows:
        if episode.episode_id in seen:
            raise row.error(f"episode {episode.episode_id} already stands in row {seen[episode.episode_id]}")
        seen[episode.episode_id] = row.row
        out.append(episode)
    return out


def split_names(data: Mapping[str, Any], options: Sequence[str] = ()) -> list[str]:
    """The entries of a data section that describe a split, train and val first."""
    first = ("train", "val_seen", "val_unseen", "val")
    names = [key for key in data if key not in (*COMMON, *options)]
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def load_split(
    name: str, data: Mapping[str, Any], split: str, read: Read, *, options: Sequence[str] = (), of: Sequence[str] = ()
) -> Dataset:
    """Read one split. `options` are further entries of the section, `of` further entries of a split."""
    names = split_names(data, options)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names) or 'none'}")
    entry, where = data[split], f"data.{split}"
    if isinstance(entry, str | Path):
        entry = {"episodes": entry}
    if not isinstance(entry, Mapping):
        raise DataError(f"the split '{split}' must be a file, or a mapping with 'episodes' and more")
    known(entry, (*ENTRIES, *of), where)
    root = option_path(data, "root", ".")
    graphs: GraphMap | None = None
    if data.get("graphs") is not None:
        graphs = connectivity.Graphs(root / option_path(data, "graphs"))
    records = read(root / option_path(entry, "episodes", where=where), {**data, **entry}, graphs)
    for choice in ("ids", "exclude"):
        if entry.get(choice):
            path = root / option_path(entry, choice, where=where)
            records = _chosen(records, path, keep=choice == "ids")
    if not records:
        raise DataError(f"the split '{split}' holds no episodes")
    return Dataset(name, split, records, {}, graphs)


def _chosen(records: Sequence[Episode], path: Path, *, keep: bool) -> list[Episode]:
    """Episodes that a list of episode ids or path ids names, or those that it does not."""
    ids, _, _ = read_ids(path)
    for kind in ("episode_id", "path_id"):
        values = {getattr(record, kind) for record in records}
        if ids <= values:
            return [record for record in records if (getattr(record, kind) in ids) == keep]
    lost = sorted(ids - {r.episode_id for r in records} - {r.path_id for r in records}) or sorted(ids)
    raise DataError(f"{len(lost)} ids are neither all episodes nor all paths of the split, as {lost[0]}", file=path)
