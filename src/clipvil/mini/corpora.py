"""The miniature world as files: pictures, COCO captions and VQA v2 questions with ten annotators.

A corpus is a folder:

    manifest.json                    what it is, with hashes; written last, so that it vouches for all the others
    images/<split>/<file_name>       PNG pictures of 128 x 128 pixels
    captions_<split>.json            COCO captions: info, licenses, images, annotations (five a picture)
    questions_<split>.json           VQA v2 questions
    annotations_<split>.json         VQA v2 annotations

The corpora of other tasks about the same pictures are written by `companions`.

The splits train, val and test show the same kind of scenes; `shifted` shows shape-colour pairs that no training picture
has, and turns every preference round. Image and question ids are integers, unique over all splits.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.errors import DataError, UsageError
from clipvil.files import atomic_write_json
from clipvil.mini.annotators import annotate
from clipvil.mini.captions import captions
from clipvil.mini.drawing import draw
from clipvil.mini.questions import questions
from clipvil.mini.world import CANVAS, scene, stream
from clipvil.progress import progress

VERSION = 1
"""Raised whenever the same seed and sizes would give other files, so that an old corpus is not taken for a new one."""
SPLITS = ("train", "val", "test", "shifted")
SIZES = {"train": 4000, "val": 500, "test": 1000, "shifted": 1000}
"""Pictures a split when nobody says otherwise."""
QUESTIONS = {"train": 8, "val": 5, "test": 5, "shifted": 5}
"""Questions a picture. More in training: another question costs no further features."""
IDS_PER_SPLIT = 1_000_000
MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
"""Stands in a folder while its corpus is being written: what is there is ours and may be replaced."""
INFO = {"description": "clipvil miniature world", "version": str(VERSION), "contributor": "clipvil", "url": ""}
LICENSE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}


@dataclass(frozen=True)
class Corpus:
    """A complete corpus on disk: where it is and how many pictures each split has."""

    root: Path
    sizes: dict[str, int]
    seed: int

    def pictures(self, split: str) -> Path:
        """The folder with the pictures of a split."""
        return self.root / "images" / split


def image_id(split: str, index: int) -> int:
    """The id of picture `index` (from 0) of a split; ids start at 1."""
    return SPLITS.index(split) * IDS_PER_SPLIT + index + 1


def file_name(split: str, index: int) -> str:
    """The file name of a picture, in the manner of COCO."""
    return f"mini_{split}_{image_id(split, index):012d}.png"


def write_corpus(
    directory: str | Path, sizes: Mapping[str, int] | None = None, seed: int = 0, *, force: bool = False
) -> Corpus:
    """Write the corpus into `directory`, or take what is there if it is complete and the same.

    `sizes` gives pictures a split; splits it leaves out are not written. The same seed and sizes give the same files,
    byte for byte, and picture i of a split does not depend on the sizes. A corpus that was interrupted is written
    again; another corpus is only replaced with `force`.

    Raises `UsageError` for impossible sizes or a folder that holds something else, `DataError` for a damaged corpus.
    """
    wanted = checked_sizes(SIZES if sizes is None else sizes)
    root = Path(directory)
    if _reusable(root, wanted, seed, force):
        return Corpus(root, wanted, seed)
    root.mkdir(parents=True, exist_ok=True)
    head = {"format": "clipvil-mini", "version": VERSION, "seed": seed, "sizes": wanted}
    atomic_write_json(root / UNFINISHED, head)
    (root / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(root / "images", ignore_errors=True)
    for leftover in (path for split in SPLITS for path in _json_files(root, split)):
        leftover.unlink(missing_ok=True)
    hashes: dict[str, str] = {}
    with progress(sum(wanted.values()), "miniature world") as bar:
        for split, count in wanted.items():
            hashes |= _write_split(root, split, count, seed, bar)
    atomic_write_json(root / MANIFEST, {**head, "sha256": hashes})
    (root / UNFINISHED).unlink()
    return Corpus(root, wanted, seed)


def open_corpus(directory: str | Path) -> Corpus:
    """A complete corpus that was written before. Raises `DataError` if there is none or it was not finished."""
    root = Path(directory)
    manifest = _manifest(root)
    if manifest is None:
        what = "this corpus was never finished" if (root / UNFINISHED).exists() else "no corpus of the miniature world"
        raise DataError(what, file=root, fix="write one with `clipvil mini DIR`")
    _check_files(root, manifest)
    return Corpus(root, dict(manifest["sizes"]), int(manifest["seed"]))


def checked_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes in the order of `SPLITS`. Raises `UsageError` for an unknown split or an impossible number."""
    if not isinstance(sizes, Mapping):
        raise UsageError(f"sizes: must give pictures a split, as in {{train: 4000, val: 500}}, not {sizes!r}")
    for split, count in sizes.items():
        if split not in SPLITS:
            raise UsageError(f"sizes: no split {split!r} in the miniature world; there are {', '.join(SPLITS)}")
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count < IDS_PER_SPLIT:
            raise UsageError(f"sizes: {split}={count!r} must be a whole number from 1 to {IDS_PER_SPLIT - 1}")
    if not sizes:
        raise UsageError("sizes: name at least one split, as in train=4000")
    return {split: sizes[split] for split in SPLITS if split in sizes}


def _reusable(root: Path, sizes: dict[str, int], seed: int, force: bool) -> bool:
    """Whether the folder holds just this corpus, complete. Raises where writing would destroy something else."""
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root}: is a file; name a folder for the corpus")
    manifest = _manifest(root)
    if manifest is None:
        if root.exists() and any(root.iterdir()) and not (root / UNFINISHED).exists():
            raise UsageError(f"{root}: not empty and not a corpus of the miniature world; name another folder")
        return False
    same = (manifest.get("version"), manifest.get("seed"), manifest.get("sizes")) == (VERSION, seed, sizes)
    if force:
        return False
    if not same:
        raise UsageError(
            f"{root}: holds another corpus (version {manifest.get('version')}, seed {manifest.get('seed')}, sizes "
            f"{manifest.get('sizes')}); name another folder or replace it with --force"
        )
    _check_files(root, manifest)
    return True


def _manifest(root: Path) -> dict[str, Any] | None:
    """The manifest of a corpus, or None where there is no corpus at all."""
    path = root / MANIFEST
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read ({error})", file=path, fix="name another folder") from error
    if not isinstance(value, dict) or value.get("format") != "clipvil-mini":
        raise UsageError(f"{path}: not the manifest of a miniature world; name another folder")
    return value


def _check_files(root: Path, manifest: Mapping[str, Any]) -> None:
    """A cheap check of a complete corpus: the JSON files by their hash, the pictures by their number."""
    fix = "write the corpus again with --force"
    for split, count in manifest["sizes"].items():
        for path in _json_files(root, split):
            if not path.is_file() or _sha256(path.read_bytes()) != manifest["sha256"].get(path.name):
                raise DataError("missing, or not what was written", file=path, fix=fix)
        folder = root / "images" / split
        found = sum(1 for _ in folder.glob("*.png")) if folder.is_dir() else 0
        if found != count:
            raise DataError(f"has {found} pictures, and should have {count}", file=folder, fix=fix)


def _json_files(root: Path, split: str) -> list[Path]:
    return [root / f"{kind}_{split}.json" for kind in ("captions", "questions", "annotations")]


def _write_split(root: Path, split: str, count: int, seed: int, bar: Any) -> dict[str, str]:
    """Pictures first, then the three JSON files; returns the hash of each, and of all the pictures together."""
    folder = root / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    pixels = hashlib.sha256()
    for index in range(count):
        # No fsync a picture: the manifest vouches for the whole, and an interrupted corpus is written again.
        data = _png(seed, split, index)
        (folder / file_name(split, index)).write_bytes(data)
        pixels.update(data)
        bar.update(1)
    hashes = {f"images/{split}": pixels.hexdigest()}
    contents = (caption_file(split, count, seed), *vqa_files(split, count, seed))
    for path, value in zip(_json_files(root, split), contents, strict=True):
        atomic_write_json(path, value, indent=None)
        hashes[path.name] = _sha256(path.read_bytes())
    return hashes


def _png(seed: int, split: str, index: int) -> bytes:
    buffer = io.BytesIO()
    draw(scene(seed, split, index), CANVAS).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def caption_file(split: str, count: int, seed: int) -> dict[str, Any]:
    """The content of `captions_<split>.json`, in the format of COCO captions."""
    images, annotations = [], []
    for index in range(count):
        key = image_id(split, index)
        images.append(
            {"id": key, "file_name": file_name(split, index), "height": CANVAS, "width": CANVAS, "license": 1}
        )
        for k, text in enumerate(captions(scene(seed, split, index))):
            annotations.append({"id": (key - 1) * 5 + k + 1, "image_id": key, "caption": text})
    licenses = [{"id": 1, **LICENSE}]
    return {"info": INFO, "licenses": licenses, "images": images, "annotations": annotations}


def vqa_files(split: str, count: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of `questions_<split>.json` and `annotations_<split>.json`, in the format of VQA v2."""
    asked, answered = [], []
    for question, annotation in _questions(split, count, seed):
        asked.append(question)
        answered.append(annotation)
    head = {"info": INFO, "license": LICENSE, "data_type": "clipvil_mini", "data_subtype": split}
    return {**head, "task_type": "Open-Ended", "questions": asked}, {**head, "annotations": answered}


def _questions(split: str, count: int, seed: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for index in range(count):
        key = image_id(split, index)
        found = questions(scene(seed, split, index), QUESTIONS[split], split=split)
        for k, asked in enumerate(found):
            question_id = key * 1000 + k
            yield (
                {"image_id": key, "question": asked.text, "question_id": question_id},
                {
                    "question_type": asked.question_type,
                    "multiple_choice_answer": asked.answer,
                    "answers": annotate(stream(seed, "annotators", split, index, k), asked),
                    "image_id": key,
                    "answer_type": asked.answer_type,
                    "question_id": question_id,
                },
            )
