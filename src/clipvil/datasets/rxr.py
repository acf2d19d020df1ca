"""Room-across-Room (arXiv 2010.07954): guide and follower annotations in English, Hindi and Telugu.

Data section:

    format: rxr
    root: /data/rxr
    graphs: connectivity                       # optional: every path is then checked against its graph
    languages: [en, hi, te]                    # optional: only these; en stands for en-IN and en-US
    train: rxr_train_guide.jsonl.gz            # or {episodes: ..., ids: ..., exclude: ...}
    val_unseen: rxr_val_unseen_guide.jsonl.gz

A guide file holds JSON lines, gzipped or not, of {instruction_id, path_id, scan, path, heading, language, instruction};
other fields are passed over, but in Hindi and Telugu `parse_tree_origin` (CLIP-ViL's pre-processed files), whose words
are kept in `extra["words"]`, parted by blanks, since the published vocabularies of these two count those. English has
trees too, but was split as R2R is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipvil.datasets import episodes
from clipvil.datasets.base import Dataset, Row
from clipvil.datasets.episodes import GraphMap
from clipvil.errors import DataError
from clipvil.records import Episode

LANGUAGES = ("en", "hi", "te")
_OPTIONS = ("languages",)


@dataclass(frozen=True)
class Demonstration:
    """What one follower walked on hearing an instruction; `metrics` are the published ones (ne, sr, spl, ndtw, ...)."""

    demonstration_id: str
    instruction_id: str
    path: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The entries of the data section that describe a split, train and val first."""
    return episodes.split_names(data, _OPTIONS)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return episodes.load_split("rxr", data, split, _read, options=_OPTIONS)


def _read(path: Path, options: Mapping[str, Any], graphs: GraphMap | None) -> list[Episode]:
    wanted = options.get("languages")
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted is not None and (not isinstance(wanted, list) or not set(wanted) <= set(LANGUAGES)):
        raise DataError(f"must be a list of {', '.join(LANGUAGES)}, not {wanted!r}", field="data.languages")
    return read_rxr(path, graphs=graphs, languages=wanted)


def read_rxr(path: str | Path, *, graphs: GraphMap | None = None, languages: list[str] | None = None) -> list[Episode]:
    """One record an instruction, in file order, of some languages or of all.

    Raises DataError naming file, row and field: among others for an instruction without a word and, where `graphs` are
    given, for a path that leaves its graph.
    """
    rows = ((row, _language(row)) for row in episodes.episode_rows(path))
    kept = ((row, name) for row, name in rows if languages is None or name[:2] in languages)
    return episodes.check_unique((row, _episode(row, name, graphs)) for row, name in kept)


def _language(row: Row) -> str:
    name = row.text("language")
    if name.split("-")[0] not in LANGUAGES:
        raise row.error(f"unknown language {name!r}; RxR has {', '.join(LANGUAGES)}", "language")
    return name


def _episode(row: Row, language: str, graphs: GraphMap | None) -> Episode:
    said = episodes.words_of(row, row.raw("instruction"), "instruction")
    words = [] if language.split("-")[0] == "en" else _parsed_words(row)
    return Episode(
        row.identifier("instruction_id"),
        row.text("scan"),
        said,
        episodes.path_of(row, graphs),
        episodes.heading_of(row),
        language,
        row.identifier("path_id"),
        {"words": " ".join(words)} if words else {},
    )


def _parsed_words(row: Row) -> list[str]:
    """The words of the dependency trees, sentence after sentence, where the row has trees."""
    if not row.has("parse_tree_origin"):
        return []
    out = []
    trees = row.raw("parse_tree_origin")
    for tree in trees if isinstance(trees, list) else [None]:
        if not isinstance(tree, Mapping):
            raise row.error("must be a list of objects, one a sentence", "parse_tree_origin")
        for node in tree.values():
            if isinstance(node, Mapping) and isinstance(node.get("word"), str):
                out.append(node["word"])
    return out


def read_followers(path: str | Path) -> list[Demonstration]:
    """The demonstrations of a follower file, in file order.

    Raises DataError naming file, row and field. Follower rows name no scan, so their paths are not checked.
    """
    out: list[Demonstration] = []
    seen: dict[str, int] = {}
    for row in episodes.episode_rows(path):
        key = row.identifier("demonstration_id")
        if seen.setdefault(key, row.row) != row.row:
            raise row.error(f"demonstration {key} already stands in row {seen[key]}", "demonstration_id")
        metrics = row.value.get("metrics") or {}
        numbers = isinstance(metrics, Mapping) and all(isinstance(value, int | float) for value in metrics.values())
        if not numbers:
            raise row.error("must be an object of numbers", "metrics")
        walked = episodes.path_of(row, None)
        out.append(Demonstration(key, row.identifier("instruction_id"), walked, dict(metrics)))
    return out
