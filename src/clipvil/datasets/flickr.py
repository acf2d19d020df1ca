"""Flickr8k and Flickr30k in their published caption files, with a folder of pictures.

Data section:

    format: flickr
    root: /data/flickr8k
    captions: Flickr8k.token.txt       # or captions.txt (CSV), results.csv (Flickr30k)
    images: Images
    train: Flickr_8k.trainImages.txt   # lists of file names, one a line: one entry a split
    val: Flickr_8k.devImages.txt
    test: Flickr_8k.testImages.txt

Without lists the pictures are held out by a hash: `holdout: {val: 0.1, test: 0.1}` (default) and `seed: 0`. For
Karpathy's splits of these corpora use the format `karpathy`.

Three kinds of caption files are told apart by their first line: `name.jpg#0<TAB>caption`; a CSV with the columns
`image,caption`; and `image_name| comment_number| comment`. Image ids are file names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, csv_rows, known, option_int, option_path, read_text
from clipvil.datasets.splitting import checked_holdout, split_pictures
from clipvil.errors import DataError
from clipvil.records import Caption

_OPTIONS = ("format", "root", "captions", "images", "holdout", "seed")


def split_names(data: Mapping[str, Any]) -> list[str]:
    """The splits that have a list, or train and the held-out ones; train and val first."""
    lists = [key for key in data if key not in _OPTIONS]
    names = lists or ["train", *checked_holdout(data)]
    return sorted(names, key=lambda name: ("train", "val").index(name) if name in ("train", "val") else 2)


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    names = split_names(data)
    if split not in names:
        raise DataError(f"there is no split '{split}'", fix=f"the data section has {', '.join(names)}")
    root = option_path(data, "root", ".")
    path = root / option_path(data, "captions")
    records = read_flickr(path)
    if split in data:
        if data.get("holdout"):
            raise DataError("the data section has lists of pictures; drop them or 'holdout'", field="holdout")
        chosen = _listed(root / option_path(data, split), {record.image_id for record in records}, path)
    else:
        known(data, _OPTIONS)
        assigned = split_pictures(
            (r.image_id for r in records), checked_holdout(data), seed=option_int(data, "seed", 0)
        )
        chosen = {image for image, part in assigned.items() if part == split}
    kept = [record for record in records if record.image_id in chosen]
    folder = root / option_path(data, "images", ".")
    return Dataset("flickr", split, kept, {i: folder / i for i in dict.fromkeys(r.image_id for r in kept)})


def _listed(path: Path, captioned: set[str], captions: Path) -> set[str]:
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        name = line.strip()
        if not name:
            continue
        if name not in captioned:
            raise DataError(f"picture {name} has no caption in {captions}", file=path, row=number)
        names[name] = number
    return set(names)


def read_flickr(path: str | Path) -> list[Caption]:
    """Records in file order. Raises DataError naming file and row."""
    text = read_text(path)
    first = text.split("\n", 1)[0].strip()
    if "#" in first and "\t" in first:
        records = _token_file(text, path)
    elif first.replace(" ", "").startswith("image_name|"):
        records = _piped_file(text, path)
    else:
        records = list(_table(csv_rows(text, path, ",", ("image", "caption")), path))
    _check_ids(records, path)
    return records


def _token_file(text: str, path: str | Path) -> list[Caption]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.rstrip("\r").partition("\t")
        name, hash_sign, place = key.rpartition("#")
        if not tab or not hash_sign or not name or not place.strip().isdecimal():
            raise DataError("must read `name.jpg#0<TAB>caption`", file=path, row=number)
        records.append(Caption(name, caption.strip(), f"{name}#{place.strip()}"))
    return records


def _piped_file(text: str, path: str | Path) -> list[Caption]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if number == 1 or not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("|", 2)]
        # The published Flickr30k file has a row in which the second separator is missing.
        if len(cells) == 2:
            place, _, caption = cells[1].partition(" ")
            cells = [cells[0], place, caption]
        if len(cells) != 3 or not cells[0] or not cells[1].isdecimal():
            raise DataError("must read `name.jpg| 0| caption`", file=path, row=number)
        records.append(Caption(cells[0], cells[2].strip(), f"{cells[0]}#{cells[1]}"))
    return records


def _table(rows: Iterable[Row], path: str | Path) -> Iterable[Caption]:
    count: dict[str, int] = {}
    for row in rows:
        name = row.text("image")
        place = count[name] = count.get(name, -1) + 1
        yield Caption(name, row.text("caption", default="", empty=True).strip(), f"{name}#{place}")


def _check_ids(records: list[Caption], path: str | Path) -> None:
    seen: set[str] = set()
    for record in records:
        if record.caption_id in seen:
            raise DataError(f"caption {record.caption_id} comes twice", file=path)
        seen.add(record.caption_id)
    if not records:
        raise DataError("holds no captions", file=path)
