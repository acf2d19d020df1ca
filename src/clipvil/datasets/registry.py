"""Every corpus by the name of its format. A new corpus is one file with `split_names` and `load`, and one line here.

Third parties add theirs through the entry point group `clipvil.datasets` (name = module with the two functions).
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from clipvil.datasets.base import Dataset, option_text
from clipvil.errors import DataError

GROUP = "clipvil.datasets"
# Format -> module. A table and not imports, so that reading one corpus loads nothing of the others.
_FORMATS = {
    "mini": "clipvil.datasets.mini",
    "vqa_v2": "clipvil.datasets.vqa_v2",
    "vqa_cp": "clipvil.datasets.vqa_cp",
    "visual_genome": "clipvil.datasets.visual_genome",
    "gqa": "clipvil.datasets.gqa",
    "snli_ve": "clipvil.datasets.snli_ve",
    "easy_vqa": "clipvil.datasets.easy_vqa",
    "custom": "clipvil.datasets.custom",
    "coco_captions": "clipvil.datasets.coco_captions",
    "karpathy": "clipvil.datasets.karpathy",
    "flickr": "clipvil.datasets.flickr",
    "nocaps": "clipvil.datasets.nocaps",
    "custom_captions": "clipvil.datasets.custom_captions",
    "mini_captions": "clipvil.datasets.mini_captions",
    "mini_snli_ve": "clipvil.datasets.mini_snli_ve",
    "mini_gqa": "clipvil.datasets.mini_gqa",
    "vcr": "clipvil.datasets.vcr",
    "mini_vcr": "clipvil.datasets.mini_vcr",
    "mini_lxmert": "clipvil.datasets.mini_lxmert",
    "lxmert": "clipvil.datasets.lxmert",
    "listed": "clipvil.datasets.listed",
    "mixed": "clipvil.datasets.mixed",
    "r2r": "clipvil.datasets.r2r",
    "r4r": "clipvil.datasets.r4r",
    "rxr": "clipvil.datasets.rxr",
    "mini_r2r": "clipvil.datasets.mini_r2r",
}


def formats() -> list[str]:
    """Names of all known formats, third-party ones included."""
    return sorted({*_FORMATS, *(entry.name for entry in importlib.metadata.entry_points(group=GROUP))})


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split of the corpus that a recipe's data section describes: {"format": NAME, ...}.

    Raises DataError for an unknown format, split or entry, and for every fault in the files.
    """
    return _module(data).load(data, split)


def split_names(data: Mapping[str, Any]) -> list[str]:
    """Which splits the data section has: `train`, then `val`, then test splits (`test`, `shifted`, ...)."""
    return list(_module(data).split_names(data))


def _module(data: Mapping[str, Any]) -> ModuleType:
    name = option_text(data, "format", "")
    if name in _FORMATS:
        return importlib.import_module(_FORMATS[name])
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name == name:
            module: ModuleType = entry.load()
            return module
    what = f"unknown data format {name!r}" if name else "the data section names no format"
    raise DataError(what, field="data.format", fix=f"known are {', '.join(formats())}")
