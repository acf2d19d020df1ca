"""More corpora about the pictures of the miniature world, in the official formats of other tasks.

    gqa_<split>.json         GQA questions, balanced ones and those that they entail
    snli_ve_<split>.jsonl    SNLI-VE pairs: see `clipvil.mini.hypotheses` for the rule behind the labels
    lxmert_<split>.json      pre-training pairs as LXMERT's files have them: captions, and questions with answers
    vcr_<split>.jsonl        VCR questions: see `clipvil.mini.commonsense`; boxes in vcr_metadata/<split>/, a file a
                             picture

They lie beside the files of `corpora` and are written when somebody asks for them: `clipvil mini DIR` writes all.
`companions.json` says which are there, each with its version, its hash, and the world that it was written for. Files of
LXMERT's format are written for train and val alone, so that nothing is pre-trained on a picture of a test split.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clipvil.errors import DataError, UsageError
from clipvil.files import atomic_write, atomic_write_json
from clipvil.mini import corpora
from clipvil.mini.captions import captions
from clipvil.mini.commonsense import commonsense
from clipvil.mini.corpora import Corpus
from clipvil.mini.gqa import gqa_questions
from clipvil.mini.hypotheses import hypotheses
from clipvil.mini.world import CANVAS, Scene, scene
from clipvil.text.answers import soft_scores

MANIFEST = "companions.json"
PAIRS = {"train": 6, "val": 4, "test": 4, "shifted": 4}
"""SNLI-VE pairs a picture, on average."""
COMMONSENSE = {"train": 6, "val": 4, "test": 4, "shifted": 4}
"""VCR questions a picture at most; a picture of one thing has none."""
METADATA = "vcr_metadata"
"""The folder of VCR's metadata files."""
PRETRAINING_SPLITS = ("train", "val")


def splits_of(kind: str, sizes: Mapping[str, int]) -> list[str]:
    """The splits of a world that a companion has. Raises UsageError for an unknown kind."""
    if kind not in _WRITERS:
        raise UsageError(f"no companion {kind!r} of the miniature world; there are {', '.join(_WRITERS)}")
    return [split for split in sizes if kind != "lxmert" or split in PRETRAINING_SPLITS]


def file_of(kind: str, split: str) -> str:
    """The name of a companion's file."""
    return f"{kind}_{split}.{'jsonl' if kind in ('snli_ve', 'vcr') else 'json'}"


def write_companion(corpus: Corpus, kind: str) -> None:
    """Write a companion of a complete corpus, or take what is there if it is whole and the same.

    The same world gives the same bytes. Files appear whole; one that is missing, damaged or of another world is written
    again.
    """
    splits = splits_of(kind, corpus.sizes)
    world = {"version": corpora.VERSION, "seed": corpus.seed, "sizes": corpus.sizes}
    wanted = {"version": _VERSIONS[kind], "world": world}
    there = _read(corpus.root)
    entry = there.get(kind)
    if isinstance(entry, dict) and {k: entry.get(k) for k in wanted} == wanted and _whole(corpus.root, kind, entry):
        return
    hashes = {}
    for split in splits:
        path = corpus.root / file_of(kind, split)
        _WRITERS[kind](path, split, corpus.sizes[split], corpus.seed)
        hashes[path.name] = _sha256(path)
        if kind == "vcr":
            hashes[f"{METADATA}/{split}"] = _sha256(corpus.root / METADATA / split)
    # Read once more: another process may have written another companion meanwhile.
    atomic_write_json(corpus.root / MANIFEST, {**_read(corpus.root), kind: {**wanted, "sha256": hashes}})


def write_companions(corpus: Corpus) -> None:
    """Write all of them."""
    for kind in _WRITERS:
        write_companion(corpus, kind)


def _read(root: Path) -> dict[str, Any]:
    try:
        value = json.loads((root / MANIFEST).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise DataError(f"cannot be read ({error})", file=root / MANIFEST) from None
    return value if isinstance(value, dict) else {}


def _whole(root: Path, kind: str, entry: Mapping[str, Any]) -> bool:
    hashes = entry.get("sha256")
    if not isinstance(hashes, dict):
        return False
    return all((root / name).exists() and _sha256(root / name) == digest for name, digest in hashes.items())


def _sha256(path: Path) -> str:
    """Of a file its bytes, of a folder the names and bytes of its files."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def snli_ve_rows(split: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of `snli_ve_<split>.jsonl`, keys sorted as in the official files."""
    scenes = [scene(seed, split, index) for index in range(count)]
    places = [0] * count
    for one in hypotheses(scenes, PAIRS[split], split=split, seed=seed):
        name = corpora.file_name(split, one.index)
        place = places[one.index] = places[one.index] + 1
        yield {
            "Flickr30K_ID": str(corpora.image_id(split, one.index)),
            "annotator_labels": [one.label],
            "captionID": f"{name}#0",
            "gold_label": one.label,
            "pairID": f"{name}#0r{place}{one.label[0]}",
            "sentence1": captions(scenes[one.index])[0],
            "sentence2": one.text,
        }


def _write_snli_ve(path: Path, split: str, count: int, seed: int) -> None:
    with atomic_write(path) as stream:
        for row in snli_ve_rows(split, count, seed):
            stream.write(json.dumps(row, sort_keys=True).encode("ascii") + b"\n")


def vcr_rows(split: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of `vcr_<split>.jsonl`; those of a test set too say what is right, since nobody else judges them."""
    number = 0
    for index in range(count):
        name = corpora.file_name(split, index)
        view = scene(seed, split, index)
        for place, fields in enumerate(commonsense(view, COMMONSENSE[split], split=split, seed=seed)):
            yield {
                "movie": f"mini_{split}",
                "img_fn": f"{split}/{name}",
                "metadata_fn": f"{split}/{Path(name).stem}.json",
                "img_id": str(corpora.image_id(split, index)),
                "annot_id": f"{split}-{number}",
                "question_number": place,
                **fields,
            }
            number += 1


def vcr_metadata(view: Scene) -> dict[str, Any]:
    """The metadata file of a picture: boxes and outlines in its pixels. There is no detector, so all are certain."""
    boxes = [[round(side, 2) for side in thing.box] for thing in view.objects]
    return {
        "boxes": [[*box, 1.0] for box in boxes],
        "segms": [[[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]] for x1, y1, x2, y2 in boxes],
        "names": ["person"] * len(boxes),
        "width": CANVAS,
        "height": CANVAS,
    }


def _write_vcr(path: Path, split: str, count: int, seed: int) -> None:
    folder = path.parent / METADATA / split
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index in range(count):
        # Thousands of small files are not each forced to disk: `companions.json` has their hash, and comes last.
        file = (folder / corpora.file_name(split, index)).with_suffix(".json")
        file.write_text(json.dumps(vcr_metadata(scene(seed, split, index))) + "\n", encoding="ascii")
    with atomic_write(path) as stream:
        for row in vcr_rows(split, count, seed):
            stream.write(json.dumps(row).encode("ascii") + b"\n")


def gqa_file(split: str, count: int, seed: int) -> dict[str, Any]:
    """The content of `gqa_<split>.json`: question id -> question."""
    return {
        key: question
        for index in range(count)
        for key, question in gqa_questions(scene(seed, split, index), corpora.image_id(split, index), split)
    }


def lxmert_file(split: str, count: int, seed: int) -> list[dict[str, Any]]:
    """The content of `lxmert_<split>.json`: captions, VQA questions with soft labels, balanced GQA questions."""
    asked, answered = corpora.vqa_files(split, count, seed)
    by_picture: dict[int, list[tuple[str, dict[str, float]]]] = {}
    for question, annotation in zip(asked["questions"], answered["annotations"], strict=True):
        scores = soft_scores([one["answer"] for one in annotation["answers"]])
        label = {answer: round(score, 2) for answer, score in scores.items() if score >= 0.005}
        by_picture.setdefault(question["image_id"], []).append((question["question"], label))
    rows = []
    for index in range(count):
        key, view = corpora.image_id(split, index), scene(seed, split, index)
        vqa = by_picture.get(key, [])
        gqa = [
            (one["question"], {one["answer"]: 1.0}) for _, one in gqa_questions(view, key, split) if one["isBalanced"]
        ]
        rows.append(
            {
                "img_id": str(key),
                "sentf": {"mscoco": captions(view), "vqa": [text for text, _ in vqa], "gqa": [text for text, _ in gqa]},
                "labelf": {"vqa": [label for _, label in vqa], "gqa": [label for _, label in gqa]},
            }
        )
    return rows


def _write_gqa(path: Path, split: str, count: int, seed: int) -> None:
    atomic_write_json(path, gqa_file(split, count, seed), indent=None)


def _write_lxmert(path: Path, split: str, count: int, seed: int) -> None:
    atomic_write_json(path, lxmert_file(split, count, seed), indent=None)


_WRITERS: dict[str, Callable[[Path, str, int, int], None]] = {
    "gqa": _write_gqa,
    "snli_ve": _write_snli_ve,
    "lxmert": _write_lxmert,
    "vcr": _write_vcr,
}
_VERSIONS = {"gqa": 1, "snli_ve": 1, "lxmert": 1, "vcr": 1}
