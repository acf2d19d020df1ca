"""Splits made of parts: one file each of any corpus of questions, whole or chosen by a list of ids.

A split of a data section is one part (a mapping) or a list of them, read one after the other:

    train:
      - {questions: train_Q.json, annotations: train_A.json, images: train2014, template: "..."}
      - {questions: val_Q.json, annotations: val_A.json, images: val2014, template: "...", ids: nominival.json}
    val: {questions: val_Q.json, annotations: val_A.json, images: val2014, template: "...", ids: minival.json}

`format` inside a part names another corpus than the data section's, as in adding Visual Genome's questions to VQA v2's.
Beside what its reader takes, each part may have `prefix` (put before its image ids), `ids` and `exclude` (see
`selection`).
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from clipvil.datasets.base import Dataset, known, option_path, option_text, parse_json, read_text
from clipvil.datasets.cache import cache_folder
from clipvil.datasets.columns import Joined, Questions, QuestionSequence, Selected, find_double
from clipvil.datasets.selection import Selection
from clipvil.errors import DataError

COMMON = ("format", "prefix", "ids", "exclude")
DATA = ("format", "root", "cache")
# Format -> module with ENTRIES and read_part.
_READERS = {
    "vqa_v2": "clipvil.datasets.vqa_v2",
    "vqa_cp": "clipvil.datasets.vqa_cp",
    "visual_genome": "clipvil.datasets.visual_genome",
    "gqa": "clipvil.datasets.gqa",
    "snli_ve": "clipvil.datasets.snli_ve",
}
# What a record of a corpus is called where it is not a question; parts of different kinds make no split.
_NOUNS = {"snli_ve": "pair"}


@dataclass(frozen=True)
class Request:
    """What a reader is asked for: one part's entries, and where things lie.

    `where` names the part in errors, as `data.train[1]`.
    """

    entry: Mapping[str, Any]
    root: Path
    where: str
    cache: Path | None

    @property
    def prefix(self) -> str:
        """What is put before image ids."""
        return option_text(self.entry, "prefix", "", where=self.where)

    def path(self, name: str) -> Path:
        """A required entry as a path."""
        return self.root / option_path(self.entry, name, where=self.where)

    def optional(self, name: str) -> Path | None:
        """An entry as a path, None when it is absent."""
        return None if self.entry.get(name) is None else self.path(name)

    def text(self, name: str, default: str) -> str:
        """An optional entry that is text."""
        return option_text(self.entry, name, default, where=self.where)

    def images(self) -> str:
        """The folder of the pictures: the entry `images`, or where the paths start."""
        return str(self.root / option_path(self.entry, "images", ".", where=self.where))


@dataclass(frozen=True)
class Part:
    """What a reader returns: its records, and the file of a picture by image id without the prefix."""

    records: Questions
    file_of: Callable[[str], str]


class Pictures(Mapping[str, Path]):
    """Image id to file, in order of first use; paths are made when they are asked for."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files

    def __getitem__(self, image_id: str) -> Path:
        return Path(self._files[image_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The entries of the data section that describe a split, train and val first. Looks at all, opens nothing."""
    names = [key for key in data if key not in DATA]
    for name in names:
        # Before the first file is read: a misspelt entry of the last split is not to be found after minutes.
        for where, entry in _entries(data, name):
            _reader(data.get("format"), entry, where)
    return sorted(names, key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2)


def load(corpus: str, data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation. Raises DataError for whatever is wrong in it."""
    names = split_names(data)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names) or 'none'}")
    entries = _entries(data, split)
    folder = cache_folder(data.get("cache"))
    root = option_path(data, "root", ".")
    single = len(entries) == 1
    chosen: list[Questions | Selected] = []
    files: dict[str, str] = {}
    noun = _NOUNS.get(corpus, "question")
    selection = Selection(root, noun)
    for where, entry in entries:
        request = Request(entry, root, where, folder)
        part = _read(corpus, request)
        records = selection.apply(part.records, entry, request.prefix, where)
        _add_files(files, records.image_ids(), part, request)
        chosen.append(records)
    selection.check()
    joined: QuestionSequence = chosen[0] if single else Joined(chosen)
    if not single:
        _check_unique(joined.column("question_id"), split, noun)
    if not len(joined):
        raise DataError(f"the split '{split}' holds no {noun}s")
    return Dataset(corpus, split, joined, Pictures(files))


def _entries(data: Mapping[str, Any], split: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The parts of a split, each with its name in errors. Raises DataError where the split is nothing of the kind."""
    value, where = data[split], f"data.{split}"
    entries = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        near = difflib.get_close_matches(split, DATA, n=1)
        raise DataError(
            f"the split '{split}' must be a mapping with 'questions' (or 'pairs') and more, or a list of such mappings",
            field=where,
            fix=f"did you mean '{near[0]}'?" if near else "",
        )
    return [(where if len(entries) == 1 else f"{where}[{number}]", entry) for number, entry in enumerate(entries)]


def _reader(corpus: Any, entry: Mapping[str, Any], where: str) -> ModuleType:
    """The module that reads a part, its entries checked by name."""
    name = option_text(entry, "format", corpus, where=where)
    if name not in _READERS:
        raise DataError(
            f"the recipe's {where} section names the format {name!r}", fix=f"known are {', '.join(_READERS)}"
        )
    if _NOUNS.get(name) != _NOUNS.get(corpus):
        raise DataError(
            f"the recipe's {where} section mixes the format {name!r} into {corpus!r}, which it does not fit"
        )
    module = importlib.import_module(_READERS[name])
    known(entry, (*module.ENTRIES, *COMMON), where)
    return module


def _read(corpus: str, request: Request) -> Part:
    part: Part = _reader(corpus, request.entry, request.where).read_part(request)
    return part


def _add_files(files: dict[str, str], image_ids: Iterable[str], part: Part, request: Request) -> None:
    cut = len(request.prefix)
    for image_id in image_ids:
        path = part.file_of(image_id[cut:])
        there = files.setdefault(image_id, path)
        if there != path:
            raise DataError(
                f"the recipe's {request.where} section gives picture {image_id} the file {path}, an earlier {there}",
                fix="give one of the parts a 'prefix'",
            )


def _check_unique(ids: Sequence[str], split: str, noun: str) -> None:
    double = find_double(ids)
    if double is not None:
        raise DataError(f"{noun} {ids[double[0]]} stands in two parts of the split '{split}'")


def picture_files(request: Request, default: str) -> Callable[[str], str]:
    """The file of a picture by image id, from the entries `images`, `files` and `template`."""
    folder, path = request.images(), request.optional("files")
    if path is not None:
        table = parse_json(read_text(path), file=path)
        if not isinstance(table, dict):
            raise DataError("must be an object from image id to file name", file=path)

        def look_up(image: str) -> str:
            if not isinstance(table.get(image), str):
                raise DataError(f"no file name for picture {image}", file=path)
            return os.path.join(folder, table[image])  # noqa: PTH118 - a hundred thousand Paths would take a second

        return look_up
    template = request.text("template", default)

    def fill(image: str) -> str:
        return os.path.join(folder, filled(template, image))  # noqa: PTH118 - as above

    return fill


def filled(template: str, image: str) -> str:
    """The file name of a picture; an id of digits alone is a number to the template."""
    try:
        return template.format(int(image) if image.isdecimal() else image)
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise DataError(f"the template {template!r} does not fit picture {image} ({error})", field="template") from None
