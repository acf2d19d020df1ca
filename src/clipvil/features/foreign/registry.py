"""The formats by name; their modules are imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from clipvil.errors import UsageError
from clipvil.features.foreign.base import ForeignSource, ForeignWriter, OpenSource, OpenWriter, Options

if TYPE_CHECKING:
    from clipvil.features.store import Store

_HERE = "clipvil.features.foreign"


@dataclass(frozen=True)
class Format:
    """One format: where its reader and writer are (`module:name`), and which options of `Options` it takes."""

    reader: str
    writer: str
    takes: frozenset[str]
    about: str


def _format(module: str, about: str, *takes: str, kind: str = "") -> Format:
    suffix = f"_{kind}" if kind else ""
    return Format(
        f"{_HERE}.{module}:open_source{suffix}", f"{_HERE}.{module}:open_target{suffix}", frozenset(takes), about
    )


FORMATS: Mapping[str, Format] = {
    "mmf-npy": _format("mmf", "MMF: one .npy a picture, (1, H, W, C)", "layout", "channels", "ids", kind="npy"),
    "mmf-pth": _format("mmf", "MMF: one torch.save .pth a picture, either layout", "layout", "channels", "ids",
                       kind="pth"),
    "clipvil-caption": _format("caption", "captioning: X_att/<id>.npz (feat) and X_fc/<id>.npy", "layout", "channels",
                               "ids", "pooled"),
    "openai-clip-npz": _format("openai_clip", "OpenAI-CLIP-Feature: <id>.npz (features, g_feature)", "grid", "channels",
                               "ids", "pooled"),
    "bottom-up-tsv": _format("bottom_up", "bottom-up attention TSV: base64 regions with boxes", "channels", "ids"),
    "lmdb": _format("lmdb_dump", "LMDB of .npy or .npz values by picture", "layout", "channels", "ids"),
    "hdf5": _format("hdf5_dump", "HDF5: one dataset a picture, or bottom-up image_features", "layout", "channels",
                    "ids", "ids_file"),
    "vln-tsv": _format("panoramas", "navigation: 36 views a viewpoint, base64 (CLIP-ViL)", "channels", kind="tsv"),
    "vln-hdf5": _format("panoramas", "navigation: 36 views a viewpoint, HDF5 (HAMT)", "channels", kind="hdf5"),
}  # fmt: skip


def find_format(name: str) -> Format:
    """The format of that name. Raises UsageError."""
    if name not in FORMATS:
        raise UsageError(f"unknown format '{name}'; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def open_foreign(name: str, source: Path, options: Options) -> ForeignSource:
    """Open features of the format `name`.

    Raises UsageError (unknown format, an option that it does not take), DataError (nothing of that kind there).
    """
    entry = find_format(name)
    for option, default in vars(Options()).items():
        if getattr(options, option) != default and option not in entry.takes:
            raise UsageError(f"--{option.replace('_', '-')} says nothing about the format {name}")
    return cast(OpenSource, _load(entry.reader))(source, options)


def open_writer(name: str, folder: Path, store: Store) -> ForeignWriter:
    """A writer of the format `name`. Raises UsageError where the format cannot hold what the store does."""
    return cast(OpenWriter, _load(find_format(name).writer))(folder, store)


def _load(place: str) -> object:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
