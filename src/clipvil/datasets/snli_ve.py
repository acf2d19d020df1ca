"""SNLI-VE in its official files: JSON lines of hypotheses about Flickr30k pictures. e-SNLI-VE's tables fit as well.

Data section:

    format: snli_ve
    root: /data
    train: {pairs: snli_ve_train.jsonl, images: flickr30k_images}
    val: {pairs: snli_ve_dev.jsonl, images: flickr30k_images}
    test: {pairs: snli_ve_test.jsonl, images: flickr30k_images}

Of a row count the picture (`Flickr30K_ID`, or `Flikr30kID` as the older release spells it, or `Flickr30kID` as
e-SNLI-VE does; with or without ".jpg"), the hypothesis (`sentence2`, or `hypothesis`), `gold_label`, and where they are
there `pairID`, `sentence1` (the caption behind the hypothesis: no input of the task), `annotator_labels`. Files may
be .jsonl, .csv, .tsv or .json. A row without `pairID` gets the file's name and its row as id.

Labels are strings: releases and models number them differently. A `gold_label` of "-" says that the annotators did not
agree; in a split that has labels such pairs are left out, with a count on stderr, as the official corpus leaves
them out.

Pictures are `<id>.jpg`, or as `template` or `files` say. A split may be a list of parts, and a part may be cut down by
lists of ids of pairs or of pictures: see `parts` and `selection`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipvil.datasets import parts
from clipvil.datasets.base import Dataset, Row, iter_rows, json_lines
from clipvil.datasets.cache import cached
from clipvil.datasets.columns import QuestionBuilder, Questions, find_double
from clipvil.datasets.pairs import PairSequence
from clipvil.datasets.parts import Part, Request, picture_files
from clipvil.errors import DataError
from clipvil.metrics.entailment import LABELS
from clipvil.notices import to_stderr

ENTRIES = ("pairs", "images", "template", "files")
TEMPLATE = "{}.jpg"
PICTURE_FIELDS = ("Flickr30K_ID", "Flikr30kID", "Flickr30kID")
NO_GOLD = "-"

split_names = parts.split_names


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    found = parts.load("snli_ve", data, split)
    records, dropped = agreed(PairSequence(found.records))  # type: ignore[arg-type]
    if dropped:
        to_stderr(f"{split}: {dropped} of {len(found.records)} pairs have no gold label ('-') and are left out")
        used = set(records.image_ids())
        pictures = {image: path for image, path in found.pictures.items() if image in used}
        return Dataset("snli_ve", split, records, pictures)
    return Dataset("snli_ve", split, records, found.pictures)


def agreed(pairs: PairSequence) -> tuple[PairSequence, int]:
    """The pairs with a gold label, and how many have none; all of them where none has one (a hidden test set)."""
    keep = [row for row, label in enumerate(pairs.column("label")) if label]
    if not keep or len(keep) == len(pairs):
        return pairs, 0
    return pairs.select(np.asarray(keep, dtype=np.int64)), len(pairs) - len(keep)


def read_part(request: Request) -> Part:
    """One part of a split; called by `parts.load`."""
    path = request.path("pairs")
    return Part(read_rows(path, prefix=request.prefix, cache=request.cache), picture_files(request, TEMPLATE))


def read_pairs(path: str | Path, *, prefix: str = "") -> PairSequence:
    """Every pair of a file in file order, those without a gold label included (with an empty label)."""
    return PairSequence(read_rows(path, prefix=prefix))


def read_rows(path: str | Path, *, prefix: str = "", cache: Path | None = None) -> Questions:
    """The pairs of a file as the columns that a `PairSequence` reads from.

    Raises DataError naming file, row and field for a missing field, a wrong type, an unknown label or a pair twice.
    """
    path = Path(path)

    def build() -> Questions:
        builder = QuestionBuilder()
        places: list[int] = []
        for row in _rows(path):
            key = row.identifier("pairID") if row.has("pairID") else f"{path.stem}/{row.row}"
            builder.add(
                key, prefix + _picture(row), row.text("sentence2" if row.has("sentence2") else _hypothesis(row)),
                _annotators(row), "", row.text("sentence1", default="", empty=True), _gold(row),
            )  # fmt: skip
            places.append(row.row)
        records = builder.finish()
        if not places:
            raise DataError("holds no pairs", file=path)
        ids = records.column("question_id")
        double = find_double(ids)
        if double is not None:
            first = places[double[1]]
            raise DataError(
                f"pair {ids[double[0]]} already stands in row {first}", file=path, row=places[double[0]], field="pairID"
            )
        return records

    return cached("snli_ve", [path], build, options={"prefix": prefix}, folder=cache)


def _rows(path: Path) -> Iterator[Row]:
    """Line by line: the training file has 500 MB, most of it parses of sentences."""
    if path.suffix.lower() not in (".jsonl", ".json") or _is_list(path):
        yield from iter_rows(path)
        return
    for _, row in json_lines(path):
        yield row


def _is_list(path: Path) -> bool:
    """Whether a .json file holds one list of rows, and not rows one a line."""
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False


def _picture(row: Row) -> str:
    name = next((name for name in PICTURE_FIELDS if row.has(name)), None)
    if name is None:
        raise row.error(f"is missing, and so are {' and '.join(PICTURE_FIELDS[1:])}", PICTURE_FIELDS[0])
    key = row.identifier(name)
    return key[:-4] if key.lower().endswith(".jpg") and len(key) > 4 else key


def _hypothesis(row: Row) -> str:
    return "hypothesis" if row.has("hypothesis") else "sentence2"


def _gold(row: Row) -> str:
    if not row.has("gold_label"):
        return ""
    label = row.text("gold_label")
    return "" if label == NO_GOLD else _label(row, label, "gold_label")


def _annotators(row: Row) -> tuple[str, ...]:
    given = row.value.get("annotator_labels")
    if given is None:
        return ()
    if not isinstance(given, list):
        raise row.error("must be a list", "annotator_labels")
    # Annotators who did not answer stand as empty strings in SNLI.
    return tuple(_label(row, label, "annotator_labels") for label in given if label not in ("", NO_GOLD))


def _label(row: Row, label: Any, name: str) -> str:
    if label not in LABELS:
        text = row.checked_text(label, name)
        raise row.error(f"unknown label {text!r}", name, f"known are {', '.join(LABELS)} and {NO_GOLD}")
    return str(label)
