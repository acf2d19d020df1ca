"""The TSV of bottom-up attention: one line a picture, regions and boxes as base64 of float32.

Six columns: image_id, image_w, image_h, num_boxes, boxes (N, 4), features (N, C). The ten columns of LXMERT are read
too: img_id, img_h, img_w, objects_id, objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features. Boxes are
x1, y1, x2, y2 in pixels of the picture.
"""

from __future__ import annotations

import base64
import binascii
import os
from array import array
from pathlib import Path
from typing import IO, TYPE_CHECKING

import torch
from torch import Tensor

from clipvil.errors import DataError, FeatureError, UsageError
from clipvil.features.foreign.arrays import MAX_BYTES, check_size
from clipvil.features.foreign.base import ForeignRecord, ForeignSource, ForeignWriter, Options
from clipvil.features.foreign.listing import ids_of
from clipvil.features.locked import open_locked, temporary_path
from clipvil.files import fsync_folder
from clipvil.images.sources.base import printable

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store

# Number of columns -> places of width, height, number of boxes, boxes, features.
_COLUMNS = {6: (1, 2, 3, 4, 5), 10: (2, 1, 7, 8, 9)}
_HEADS = (b"image_id", b"img_id")
_FILE = "features.tsv"
# Base64 takes 4 bytes for 3.
_LONGEST = MAX_BYTES // 3 * 4
_BLOCK = 1 << 20


def open_source(place: Path, options: Options) -> ForeignSource:
    """A TSV file, or a folder with files `*.tsv*` (the parts of one), read in the order of their names."""
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if ".tsv" in path.name and path.is_file())
        if not files:
            raise DataError("holds no .tsv files", file=place)
    elif place.is_file():
        files = [place]
    else:
        raise DataError("no such file", file=place)
    names: list[str] = []
    # Three numbers a line; the lines themselves stay on the disk.
    number, start, length = array("L"), array("Q"), array("Q")
    for count, path in enumerate(files):
        for name, begin, size in _lines(path):
            names.append(name)
            number.append(count)
            start.append(begin)
            length.append(size)
    if not names:
        raise DataError("is empty", file=place)

    def where(row: int) -> str:
        return f"{files[number[row]]} at byte {start[row]}"

    def read(row: int) -> ForeignRecord:
        check_size(length[row] * 3 // 4, "the line", where(row))
        with files[number[row]].open("rb") as stream:
            stream.seek(start[row])
            line = stream.read(length[row])
        return _record(line, options.channels, where(row))

    return ForeignSource(place.name, ids_of(names, options.ids), where, read)


def _lines(path: Path) -> list[tuple[str, int, int]]:
    """Id, first byte and length of every line, found without holding a line in memory."""
    out: list[tuple[str, int, int]] = []
    with path.open("rb") as stream:
        position, begin, head = 0, 0, b""
        while block := stream.read(_BLOCK):
            at = 0
            while (end := block.find(b"\n", at)) >= 0:
                head = (head + block[at : min(end, at + 512)])[:512]
                _note(out, head, begin, position + end - begin)
                at, begin, head = end + 1, position + end + 1, b""
            if len(head) < 512:
                head = (head + block[at : at + 512])[:512]
            position += len(block)
        _note(out, head, begin, position - begin)
    return out


def _note(out: list[tuple[str, int, int]], head: bytes, begin: int, length: int) -> None:
    name = head.split(b"\t", 1)[0].strip()
    if (not out and name in _HEADS) or not head.strip():
        return
    out.append((name.decode("utf-8", "backslashreplace") or f"(line at byte {begin})", begin, length))


def _record(line: bytes, channels: int | None, where: str) -> ForeignRecord:
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) not in _COLUMNS:
        reason = "truncated" if len(fields) < 6 else "corrupt"
        raise FeatureError(reason, f"{where}: {len(fields)} columns, expected 6 (or LXMERT's 10)")
    if not fields[0].strip():
        raise FeatureError("corrupt", f"{where}: no picture id")
    width, height, count, boxes, features = (fields[place] for place in _COLUMNS[len(fields)])
    size = (_whole(height, "height", where), _whole(width, "width", where))
    regions = _whole(count, "num_boxes", where)
    box_values, values = floats(boxes, "boxes", where), floats(features, "features", where)
    if len(box_values) != 4 * regions:
        reason = "truncated" if len(box_values) < 4 * regions else "misshapen"
        raise FeatureError(reason, f"{where}: {len(box_values)} numbers in boxes, {regions} boxes need {4 * regions}")
    if not len(values) or len(values) % regions or (channels and len(values) != regions * channels):
        asked = f" of {channels} channels" if channels else ""
        raise FeatureError("misshapen", f"{where}: {len(values)} numbers in features for {regions} boxes{asked}")
    grid = values.reshape(regions, 1, -1)
    return ForeignRecord(grid, boxes=box_values.reshape(-1, 4), size=size, cells="boxes")


def _whole(field: bytes, name: str, where: str) -> int:
    text = field.strip().decode("ascii", "replace")
    if not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) > 0):
        raise FeatureError("corrupt", f"{where}: {name} is {printable(text[:40])!r}, expected a whole number above 0")
    return int(text)


def floats(field: bytes, name: str, where: str) -> Tensor:
    """A base64 field as float32. Raises FeatureError."""
    # Python 3 scripts that print bytes leave b'...' around them.
    field = field[2:-1] if field[:2] in (b"b'", b'b"') else field
    try:
        data = base64.b64decode(field, validate=True)
    except binascii.Error as error:
        reason = "truncated" if "padding" in str(error) else "corrupt"
        raise FeatureError(reason, f"{where}: {name} is no base64 ({error})") from None
    if len(data) % 4:
        raise FeatureError("truncated", f"{where}: {name} holds {len(data)} bytes, no whole number of float32")
    if not data:
        raise FeatureError("empty", f"{where}: {name} is empty")
    return torch.frombuffer(bytearray(data), dtype=torch.float32)


class _TsvWriter:
    """One file, made under a temporary name."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._done = path, path.exists()
        self._stream: IO[bytes] | None = None if self._done else open_locked(path, wait=False)

    def has(self, image_id: str) -> bool:
        """Whether the whole file is there."""
        return self._done

    def write(self, image_id: str, features: Features) -> None:
        """Append a line."""
        assert self._stream is not None and features.boxes is not None
        if any(character in image_id for character in "\t\n\r"):
            raise UsageError(f"picture id {image_id!r} holds a tab or a line break, which a TSV cannot")
        height, width = features.original_size
        numbers = [str(value).encode() for value in (width, height, len(features.boxes))]
        arrays = [base64.b64encode(_bytes(tensor)) for tensor in (features.boxes, features.grid)]
        self._stream.write(b"\t".join([image_id.encode(), *numbers, *arrays]) + b"\n")

    def close(self) -> None:
        """Put the file in its place."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            temporary_path(self._path).replace(self._path)
            fsync_folder(self._path.parent)
            self._stream.close()

    def abort(self) -> None:
        """Remove what was written."""
        if self._stream is not None:
            temporary_path(self._path).unlink(missing_ok=True)
            self._stream.close()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.float().contiguous().numpy().astype("<f4").tobytes()


def open_target(folder: Path, store: Store) -> ForeignWriter:
    """`features.tsv` with six columns. Raises UsageError for anything but regions with boxes."""
    if store.manifest.cells != "boxes":
        raise UsageError(
            f"{store.path}: holds {'grids' if store.manifest.cells == 'grid' else 'regions without boxes'}; "
            "bottom-up-tsv is for regions with boxes, use mmf-npy or clipvil-caption"
        )
    return _TsvWriter(folder / _FILE)
