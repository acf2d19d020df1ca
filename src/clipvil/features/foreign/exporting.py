"""A store written as the files that other people's code reads."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipvil.errors import StoreError, UsageError
from clipvil.features.foreign.registry import find_format, open_writer
from clipvil.features.outcome import clear_disk_errors
from clipvil.features.store import Store
from clipvil.files import atomic_write_json
from clipvil.progress import progress as show_progress

NOTE = "clipvil-export.json"
_PLACES = {
    "clipvil-caption": "DIR/features",
    "bottom-up-tsv": "DIR/features.tsv",
    "lmdb": "DIR/features.lmdb",
    "hdf5": "DIR/features.h5",
}
_WITHOUT_POOLED = ("mmf-npy", "mmf-pth", "bottom-up-tsv", "lmdb", "hdf5")


@dataclass
class ExportReport:
    """What one run of `export_features` did; `left_out` says what the format cannot hold."""

    folder: Path
    written: int = 0
    skipped: int = 0
    left_out: str = ""

    def line(self) -> str:
        """The outcome in one line."""
        parts = [f"{self.folder}: {self.written} pictures written"]
        if self.skipped:
            parts.append(f"{self.skipped} were there already")
        return ", ".join([*parts, self.left_out] if self.left_out else parts)


def export_features(store: str | Path, *, format: str, out: str | Path, progress: bool = True) -> ExportReport:
    """Write every usable picture of a store into the folder `out`; the same call again goes on where one stopped.

    Values are float32 (`mmf-pth`: the store's own type), which holds those of the store exactly. A note beside the
    files, `clipvil-export.json`, says what they are and how to import them again.

    Raises UsageError (the format cannot hold what the store does), StoreError (damage, an unfinished store, a folder
    in use for something else, a full disk).
    """
    find_format(format)
    opened, folder = Store.open(store, check=True), Path(out)
    if not opened.complete:
        raise StoreError(f"{opened.path}: is not finished; run the command that fills it again")
    ids = opened.ids()
    if not ids:
        raise StoreError(f"{opened.path}: holds no usable picture")
    report = ExportReport(folder)
    if opened.manifest.encoder.pooled_channels and format in _WITHOUT_POOLED:
        report.left_out = f"pooled vectors left out, {format} has no place for them"
    note = _note(opened, format, ids[0])
    with clear_disk_errors(folder):
        begun = _look_at(folder, note)
        writer = open_writer(format, folder, opened)
        try:
            if not begun:
                atomic_write_json(folder / NOTE, note)
            with show_progress(len(ids), "export", unit="pictures", quiet=not progress) as bar:
                for image_id in ids:
                    if writer.has(image_id):
                        report.skipped += 1
                    else:
                        writer.write(image_id, opened[image_id])
                        report.written += 1
                    bar.update(1)
            writer.close()
        except BaseException:
            writer.abort()
            raise
    if progress:
        print(report.line(), file=sys.stderr, flush=True)
    return report


def _note(store: Store, format: str, first: str) -> dict[str, Any]:
    entry = store.manifest.encoder
    rows, columns = store[first].grid.shape[:2]
    options = {
        "mmf-pth": " --layout chw",
        "openai-clip-npz": "" if rows == columns else f" --grid {rows}x{columns}",
    }.get(format, "")
    return {
        "format": format,
        "encoder": entry.name,
        "fingerprint": entry.fingerprint,
        "layer": entry.layer,
        "resize": store.manifest.resize,
        "channels": entry.grid_channels,
        "cells": store.manifest.cells,
        "content": store.content(),
        "import": f"clipvil features import {_PLACES.get(format, 'DIR')} --format {format}{options} "
        f"--channels {entry.grid_channels} --encoder-name NAME --out STORE",
    }


def _look_at(folder: Path, note: dict[str, Any]) -> bool:
    """Whether the same export was begun there; raises where something else was, and writes nothing."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; --out wants a folder")
    path = folder / NOTE
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            before = None
        if before != note:
            raise StoreError(f"{folder}: holds an export of other features; choose another --out")
        return True
    if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise StoreError(f"{folder}: is not empty; choose another --out")
    return False
