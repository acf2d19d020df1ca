"""NoCaps: captions of Open Images pictures in three domains (in-domain, near-domain, out-domain), in COCO's format.

Data section as that of `coco_captions`:

    format: nocaps
    root: /data/nocaps
    val: {captions: nocaps_val_4500_captions.json, images: val}
    test: {captions: nocaps_test_image_info.json, images: test}

Every record carries its picture's domain, so that scores can be reported apart. The published test files have neither
captions nor domains.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipvil.datasets.base import Dataset, Row, parse_json, read_text
from clipvil.datasets.coco_captions import load_as, read_coco_value, split_names
from clipvil.records import Caption

__all__ = ["load", "read_nocaps", "split_names"]


def load(data: Mapping[str, Any], split: str) -> Dataset:
    """Read one split; see the module's documentation for the data section."""
    return load_as("nocaps", data, split, read_nocaps)


def read_nocaps(path: str | Path) -> tuple[list[Caption], dict[str, str]]:
    """Records with domains, and the file name of every picture. Raises DataError as `read_coco` does."""
    return read_coco_value(parse_json(read_text(path), file=path), path, _domain)


def _domain(row: Row) -> str:
    return row.text("domain", default="")
