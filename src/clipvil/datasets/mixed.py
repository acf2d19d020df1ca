"""Pre-training pairs out of any corpora of captions and questions, for those who have no LXMERT files.

Data section:

    format: mixed
    root: /data/coco                                # default of the members' own `root`
    train:
      - {source: mscoco, data: {format: karpathy, file: dataset_coco.json, images: .}, split: [train, restval]}
      - {source: vqa, data: {format: vqa_v2, train: {...}}, split: train}
      - {source: gqa, data: {format: gqa, train: {...}}, split: train, prefix: "gqa/"}
    val: [...]

A member is a data section of any format whose records are captions, questions or pre-training pairs, with the split or
splits of it to take (default: that of the same name). `source` is what its sentences are called (default: its format;
pre-training pairs keep their own). Captions become sentences, questions become sentences with labels: what each answer
would earn by VQA's measure, or 1 where there is one answer. Captions that are empty (test sets) are passed over.

Two members with one and the same picture file share that picture, whatever their ids; the first id is kept. Two
members that call different pictures alike need a `prefix`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipvil.datasets.base import Dataset, known, option, option_text
from clipvil.datasets.cache import cache_folder, cached_as
from clipvil.datasets.lxmert import split_names
from clipvil.datasets.parts import Pictures
from clipvil.datasets.pretraining import TABLE_VERSION, PretrainingBuilder, PretrainingSequence
from clipvil.errors import DataError
from clipvil.records import Caption, PretrainingPair, Question
from clipvil.text.answers import soft_scores

__all__ = ["load", "split_names"]

_MEMBER = ("source", "data", "split", "prefix")
KEPT_FROM = 100_000
"""Sentences from which the composed table is kept in the cache; fewer are composed in a moment."""


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Compose one split; see the module's documentation for the data section."""
    names, where = split_names(data), f"data.{split}"
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names) or 'none'}")
    entries = data[split] if isinstance(data[split], Sequence) and not isinstance(data[split], str) else [data[split]]
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise DataError(f"the split '{split}' must be a list of members with 'data'", field=where)
    files: dict[str, str] = {}
    members: list[_Member] = []
    for number, entry in enumerate(entries):
        members += _members(entry, data, split, f"{where}[{number}]", files)
    folder = cache_folder(data.get("cache"))

    def build() -> PretrainingSequence:
        builder = PretrainingBuilder()
        for source, dataset, ids in members:
            for pair in _pairs(dataset, source):
                builder.add(ids[pair.image_id], pair.sentence, pair.source, dict(pair.labels))
        if not len(builder):
            raise DataError(f"the split '{split}' holds no sentences")
        return builder.finish()

    if sum(len(dataset.records) for _, dataset, _ in members) < KEPT_FROM:
        folder = None
    about = [[source, dataset.fingerprint, _digest(ids)] for source, dataset, ids in members if folder]
    options = {"table": TABLE_VERSION, "members": about}
    records = cached_as("mixed", [], build, PretrainingSequence.of, options=options, folder=folder, smallest=0)
    return Dataset("mixed", split, records, Pictures({image: files[image] for image in records.image_ids()}))


def _digest(ids: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(list(ids.items())).encode("ascii")).hexdigest()


_Member = tuple[str, Dataset, dict[str, str]]


def _members(
    entry: Mapping[str, Any], data: Mapping[str, Any], split: str, where: str, files: dict[str, str]
) -> Iterator[_Member]:
    """The splits of one member: the name of its sentences, its dataset, and the common id of each of its image ids.

    `files` maps the common ids so far to files, and is added to.
    """
    from clipvil.datasets.registry import load as load_any

    known(entry, _MEMBER, where)
    section = option(entry, "data", where)
    if not isinstance(section, Mapping) or section.get("format") in (None, "mixed"):
        raise DataError("must be the data section of another format", field=f"{where}.data")
    inherited = {name: data[name] for name in ("root", "cache") if data.get(name) is not None}
    splits = split if entry.get("split") is None else entry["split"]
    splits = [splits] if isinstance(splits, str) else splits
    if not isinstance(splits, Sequence) or not splits or not all(isinstance(one, str) for one in splits):
        raise DataError(f"must be the name of a split or a list of them, not {splits!r}", field=f"{where}.split")
    for one in splits:
        dataset = load_any({**inherited, **section}, one)
        prefix = option_text(entry, "prefix", "", where=where)
        known_as = {path: image for image, path in files.items()}
        ids = {}
        for image, path in dataset.pictures.items():
            file = str(path)
            ids[image] = known_as.get(file, prefix + image)
            if files.setdefault(ids[image], file) != file:
                raise DataError(
                    f"{where}: the picture {ids[image]} is {file} here and {files[ids[image]]} in an earlier member",
                    fix="give one of them a 'prefix'",
                )
        yield option_text(entry, "source", str(section["format"]), where=where), dataset, ids


def _pairs(dataset: Dataset, source: str) -> Iterator[PretrainingPair]:
    for record in dataset.records:
        if isinstance(record, Caption):
            if record.caption.strip():
                yield PretrainingPair("", record.image_id, record.caption, source)
        elif isinstance(record, Question):
            yield PretrainingPair(
                "", record.image_id, record.question, source, tuple(soft_scores(record.answers).items())
            )
        elif isinstance(record, PretrainingPair):
            yield record
        else:
            raise DataError(
                f"the format {dataset.name} has records of the kind {type(record).__name__}, no captions or questions"
            )
