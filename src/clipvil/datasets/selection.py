"""Choosing rows of a corpus by lists of ids: Karpathy's splits, LXMERT's nominival and minival.

`ids` (keep these) and `exclude` (drop these) of a part take the path of a list, or a mapping:

    ids: minival.json
    exclude: {file: held_out.txt, of: image, missing: allow}
    ids: {file: dataset_coco.json, split: [train, restval]}

A list is a text file with one id a line, or a JSON list of ids or of objects with `question_id` (LXMERT's own files) or
`image_id`; or Karpathy's `dataset_coco.json`, of which `split` names the wanted parts. `of` says whether they are ids
of questions or of pictures; without it, the one of the two that they fit. An id that fits no row of any part of the
split is an error, unless `missing: allow`; Karpathy's file lists pictures without questions too, so it is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clipvil.datasets.base import Row, known, option_path, parse_json, read_text
from clipvil.datasets.columns import Questions, Selected
from clipvil.errors import DataError

_OPTIONS = ("file", "of", "split", "missing")
_KINDS = ("question", "image")
_RECORD_IDS = ("question_id", "pairID", "pair_id")


@dataclass
class _List:
    """Ids of one file, of one kind when that is known, and those that fitted no row yet."""

    path: Path
    ids: frozenset[str]
    of: str | None
    lenient: bool
    left: set[str] = field(default_factory=set)


class Selection:
    """Applies the lists of one split's parts and remembers which ids were of no use."""

    def __init__(self, root: Path, noun: str = "question") -> None:
        """`noun` is what a record is called in lists (`of`) and errors."""
        self._root, self._noun = root, noun
        self._lists: dict[str, _List] = {}

    def apply(self, records: Questions, entry: Mapping[str, Any], prefix: str, where: str) -> Questions | Selected:
        """The records that a part's `ids` and `exclude` leave over, in their order."""
        if not entry.get("ids") and not entry.get("exclude"):
            return records
        keep = np.ones(len(records), dtype=bool)
        for name in ("ids", "exclude"):
            if entry.get(name):
                chosen = self._list(entry[name], f"{where}.{name}")
                hit = self._hits(chosen, records, prefix)
                keep &= hit if name == "ids" else ~hit
        return Selected(records, np.flatnonzero(keep).astype(np.int64))

    def check(self) -> None:
        """Raises DataError naming ids that fitted no part."""
        for chosen in self._lists.values():
            if chosen.left and not chosen.lenient:
                some = ", ".join(sorted(chosen.left)[:5]) + (", ..." if len(chosen.left) > 5 else "")
                raise DataError(
                    f"{len(chosen.left)} of {len(chosen.ids)} ids belong to no {self._noun} of the split: {some}",
                    file=chosen.path,
                    fix="is it the list of another corpus? 'missing: allow' passes over them",
                )

    def _list(self, choice: Any, where: str) -> _List:
        choice = {"file": choice} if isinstance(choice, str | Path) else choice
        if not isinstance(choice, Mapping):
            raise DataError(f"{where} must be a path, or a mapping with 'file'")
        known(choice, _OPTIONS, where)
        path = self._root / option_path(choice, "file", where=where)
        of, missing = choice.get("of"), choice.get("missing")
        if of not in (None, self._noun, "image") or missing not in (None, "allow", "error"):
            raise DataError(f"{where}: 'of' must be {self._noun} or image, 'missing' allow or error")
        # Whatever they are called, the ids of records stand in one column.
        of = "question" if of == self._noun else of
        key = repr((str(path), of, missing, choice.get("split")))
        if key not in self._lists:
            ids, kind, partial = read_ids(path, choice.get("split"))
            if of and kind and of != kind:
                names = {"question": self._noun, "image": "image"}
                raise DataError(f"holds ids of {names[kind]}s, not of {names[of]}s as {where} says", file=path)
            lenient = missing == "allow" or (partial and missing is None)
            self._lists[key] = _List(path, ids, of or kind, lenient, set(ids))
        return self._lists[key]

    def _hits(self, chosen: _List, records: Questions, prefix: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows (N,) the list names."""
        found = {}
        for kind in _KINDS if chosen.of is None else (chosen.of,):
            values = records.column(f"{kind}_id")
            if kind == "image":
                values = [value[len(prefix) :] for value in values]
            found[kind] = (values, chosen.ids.intersection(values))
        if chosen.of is None:
            useful = [kind for kind, (_, hit) in found.items() if hit]
            if len(useful) == 2:
                raise DataError(f"holds ids of {self._noun}s and of pictures alike", file=chosen.path, fix="say 'of'")
            # A list that fits nothing here may fit the next part.
            chosen.of = useful[0] if useful else None
        values, hit = found[chosen.of or "question"]
        chosen.left -= hit
        return np.fromiter((value in hit for value in values), dtype=bool, count=len(records))


def read_ids(path: Path, split: Any = None) -> tuple[frozenset[str], str | None, bool]:
    """Ids of a list file; which kind they are (question, image, None: it does not say); whether it lists everything

    of a larger world, so that ids without questions are no fault. Raises DataError for another kind of file, an empty
    list, or an id twice.
    """
    text = read_text(path)
    kind, partial = None, False
    if path.suffix.lower() == ".json":
        value = parse_json(text, file=path)
        if isinstance(value, dict) and isinstance(value.get("images"), list):
            items, kind, partial = _karpathy(value["images"], path, split), "image", True
        elif isinstance(value, list):
            items, kind = _json_ids(value, path)
        else:
            raise DataError("must hold a list of ids (or be Karpathy's dataset_coco.json)", file=path)
    else:
        items = [line.strip() for line in text.splitlines() if line.strip()]
    if split is not None and not partial:
        raise DataError("has no splits to choose from; 'split' is for Karpathy's dataset_coco.json", file=path)
    if not items:
        raise DataError("holds no ids", file=path)
    if kind != "image" and len(set(items)) != len(items):
        seen: set[str] = set()
        double = next(item for item in items if item in seen or seen.add(item))  # type: ignore[func-returns-value]
        raise DataError(f"names {double} twice", file=path)
    return frozenset(items), kind, partial


def _json_ids(value: list[Any], path: Path) -> tuple[list[str], str | None]:
    if not any(isinstance(item, Mapping) for item in value):
        return [Row({"id": item}, path, number).identifier("id") for number, item in enumerate(value, start=1)], None
    rows = [Row(item, path, number) for number, item in enumerate(value, start=1)]
    name = next((name for name in _RECORD_IDS if rows[0].has(name)), None)
    return [row.identifier(name or "image_id") for row in rows], "question" if name else "image"


def _karpathy(images: list[Any], path: Path, split: Any) -> list[str]:
    wanted = [split] if isinstance(split, str) else split
    if not isinstance(wanted, list) or not wanted:
        raise DataError(
            "is Karpathy's file of all splits", file=path, fix="choose with 'split', as in split: [train, restval]"
        )
    rows = [Row(item, path, number) for number, item in enumerate(images, start=1)]
    there = {row.text("split") for row in rows}
    absent = next((name for name in wanted if name not in there), None)
    if absent is not None:
        raise DataError(f"has no split '{absent}'", file=path, fix=f"it has {', '.join(sorted(there))}")
    return [row.identifier("cocoid") for row in rows if row.value["split"] in wanted]
