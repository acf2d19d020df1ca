"""MMF's grid files: one `.npy` or one `torch.save` `.pth` a picture.

CLIP-ViL's Pythia files are float32 `.npy` (1, H, W, C) named after the picture; its MoVie+MCAN files are `.pth` in the
model's own type named by the picture's number, (1, H, W, C) as its script writes them and (1, C, H, W) as MMF's
configuration reads them, so their layout must be said.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import torch
from torch import Tensor

from clipvil.errors import FeatureError, UsageError
from clipvil.features.foreign.arrays import (
    MAX_BYTES,
    MAX_ENTRIES,
    check_size,
    first_line,
    npy_bytes,
    pickled,
    read_npy_file,
)
from clipvil.features.foreign.base import ForeignRecord, ForeignSource, ForeignWriter, Options
from clipvil.features.foreign.files import FileWriter
from clipvil.features.foreign.grids import as_record
from clipvil.features.foreign.listing import ids_of, list_files
from clipvil.images.sources.base import printable

if TYPE_CHECKING:
    from clipvil.features.store import Features, Store

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def open_source_npy(folder: Path, options: Options) -> ForeignSource:
    """A folder of .npy files; the layout is hwc unless said otherwise.

    Files `X_info.npy` beside an `X.npy` (pickled notes of MMF's detector) are left out.
    """
    stems = list_files(folder, ".npy")
    known = set(stems)
    stems = [stem for stem in stems if not (stem.endswith("_info") and stem.removesuffix("_info") in known)]

    def read(row: int) -> ForeignRecord:
        path = folder / f"{stems[row]}.npy"
        return as_record(read_npy_file(path), options.layout or "hwc", options.channels, str(path))

    return ForeignSource(folder.name, ids_of(stems, options.ids), lambda row: f"{folder}/{stems[row]}.npy", read)


def open_source_pth(folder: Path, options: Options) -> ForeignSource:
    """A folder of .pth files, each one tensor. Raises UsageError where the layout is not said."""
    if options.layout is None:
        raise UsageError(
            "mmf-pth needs --layout: hwc for (1, H, W, C), as CLIP-ViL's extraction script writes, or chw for "
            "(1, C, H, W), as MMF reads"
        )
    layout, stems = options.layout, list_files(folder, ".pth")

    def read(row: int) -> ForeignRecord:
        path = folder / f"{stems[row]}.pth"
        return as_record(read_pth(path), layout, options.channels, str(path))

    return ForeignSource(folder.name, ids_of(stems, options.ids), lambda row: f"{folder}/{stems[row]}.pth", read)


def read_pth(path: Path) -> Tensor:
    """The tensor of a file that torch.save wrote, through `weights_only` and a memory map. Raises FeatureError."""
    where = str(path)
    if not path.exists():
        raise FeatureError("missing", f"{where}: no such file")
    size = path.stat().st_size
    if size == 0:
        raise FeatureError("empty", f"{where}: the file is empty")
    check_size(size, "the file", where)
    _check_archive(path, size, where)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise pickled(where) from None
    except Exception as error:
        # What a damaged archive makes of torch's reader is as varied as the damage.
        raise FeatureError("corrupt", f"{where}: cannot be read ({first_line(error)})") from None
    if type(value) is not Tensor or value.layout is not torch.strided or value.is_meta:
        raise FeatureError("unsupported", f"{where}: holds a {type(value).__name__}, expected one dense tensor")
    if value.dtype not in _FLOATS:
        raise FeatureError("unsupported", f"{where}: values of type {value.dtype}, expected floats")
    if not value.numel():
        raise FeatureError("empty", f"{where}: a tensor of shape {tuple(value.shape)} holds nothing")
    # A view of one stored value may claim any shape.
    check_size(value.numel() * value.element_size(), f"a tensor of shape {tuple(value.shape)}", where)
    return value.detach().clone()


def _check_archive(path: Path, size: int, where: str) -> None:
    """Refuse what is not torch's zip, and entries that would unpack to more than the file holds."""
    with path.open("rb") as stream:
        start = stream.read(2)
    if start[:1] == b"\x80":
        raise FeatureError(
            "unsupported",
            f"{where}: written in torch's old pickle format; where you trust the file, load it in a Python of your own "
            "and torch.save the tensor again",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise FeatureError("unsupported", f"{where}: a compressed or overlong archive, not one of torch.save")
            if sum(entry.file_size for entry in entries) > min(size, MAX_BYTES):
                raise FeatureError("corrupt", f"{where}: its entries claim more bytes than the file has")
            # torch's own reader does not look at the checksums.
            damaged = archive.testzip()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        reason = "truncated" if start == b"PK" else "corrupt"
        raise FeatureError(reason, f"{where}: not a whole file of torch.save ({first_line(error)})") from None
    if damaged is not None:
        raise FeatureError("corrupt", f"{where}: its part '{printable(damaged)}' fails its checksum")


def open_target_npy(folder: Path, store: Store) -> ForeignWriter:
    """`<id>.npy`, float32 (1, H, W, C); regions without boxes (N, C)."""
    _no_boxes(store, "mmf-npy")

    def fill(stream: IO[bytes], features: Features) -> None:
        stream.write(npy_bytes(_shaped(features.grid, store)))

    return FileWriter(store, {(folder, ".npy"): fill})


def open_target_pth(folder: Path, store: Store) -> ForeignWriter:
    """`<id>.pth`, a tensor (1, C, H, W) in the store's own type, as MMF's configuration reads it."""
    _no_boxes(store, "mmf-pth")

    def fill(stream: IO[bytes], features: Features) -> None:
        grid = _shaped(features.grid, store)
        torch.save(grid.permute(0, 3, 1, 2).contiguous() if grid.ndim == 4 else grid.clone(), stream)

    return FileWriter(store, {(folder, ".pth"): fill})


def _shaped(grid: Tensor, store: Store) -> Tensor:
    return grid.unsqueeze(0) if store.manifest.cells == "grid" else grid[:, 0]


def _no_boxes(store: Store, name: str) -> None:
    if store.manifest.cells == "boxes":
        raise UsageError(f"{store.path}: holds regions with boxes, which {name} cannot; use bottom-up-tsv or hdf5")
