"""Room-to-Room (arXiv 1711.07280) in its official files, and whatever is written as they are (R4R, augmentation).

Data section:

    format: r2r
    root: /data/r2r
    graphs: connectivity                  # optional: every path is then checked against its graph
    train: R2R_train.json                 # or {episodes: R2R_train.json, ids: some.txt, exclude: others.json}
    val_seen: R2R_val_seen.json
    val_unseen: R2R_val_unseen.json
    augmented: {episodes: aug_paths.json, instructions: none}

A file is a list of {scan, path_id, path, heading, instructions} (and distance, unused). Each instruction is
one episode, "<path_id>_<k>". `instructions: none` reads paths alone, one episode each with an empty instruction, for
back-translation to fill. `ids` and `exclude` are lists of episode ids or of path ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets import episodes
from clipvil.datasets.base import Dataset, Row
from clipvil.datasets.episodes import GraphMap
from clipvil.errors import DataError
from clipvil.records import Episode

_OF = ("instructions",)


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The entries of the data section that describe a split, train and val first."""
    return episodes.split_names(data)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return episodes.load_split("r2r", data, split, _read, of=_OF)


def _read(path: Path, options: Mapping[str, Any], graphs: GraphMap | None) -> list[Episode]:
    said = options.get("instructions")
    if said not in (None, "none"):
        raise DataError(f"must be 'none' or absent, not {said!r}", field="instructions")
    return read_r2r(path, graphs=graphs, instructions=said is None)


def read_r2r(path: str | Path, *, graphs: GraphMap | None = None, instructions: bool = True) -> list[Episode]:
    """One record an instruction, in file order; without `instructions` one a path, and none has any text.

    Raises DataError naming file, row and field: among others for an instruction without a word and, where `graphs` are
    given, for a path that leaves its graph.
    """
    found = episodes.check_unique(
        (row, episode) for row in episodes.episode_rows(path) for episode in _episodes(row, graphs, instructions)
    )
    if not found:
        raise DataError("holds no episodes", file=path)
    return found


def _episodes(row: Row, graphs: GraphMap | None, instructions: bool) -> Iterator[Episode]:
    scan, path, heading = row.text("scan"), episodes.path_of(row, graphs), episodes.heading_of(row)
    if not instructions:
        # Augmentation files number their paths, or do not.
        key = row.identifier("path_id") if row.has("path_id") else f"row{row.row}"
        yield Episode(f"{key}_0", scan, "", path, heading, path_id=key)
        return
    key, texts = row.identifier("path_id"), row.raw("instructions")
    if not isinstance(texts, list) or not texts:
        raise row.error("must be a list of strings, not empty", "instructions")
    for number, text in enumerate(texts):
        said = episodes.words_of(row, text, "instructions")
        yield Episode(f"{key}_{number}", scan, said, path, heading, path_id=key)
