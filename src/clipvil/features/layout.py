"""The names of the files of a store, in one place."""

from __future__ import annotations

import re
from pathlib import Path

from clipvil.features import manifest

MANIFEST = manifest.NAME
INDEX = "index.safetensors"
FAILURES = "failures.jsonl"
COST = "cost.json"
OURS = r"manifest\.json|index\.safetensors|failures\.jsonl|cost\.json|shard-.*\.safetensors"
"""Regular expression of the names this package writes; nothing else in the folder is ever removed."""
_SHARD_INDEX = re.compile(r"shard-(\d{5,10})\.index\.safetensors")
_SHARD_DATA = re.compile(r"shard-(\d{5,10})(?:\.(\d{1,9}))?\.safetensors")


def shard_index(folder: Path, shard: int) -> Path:
    """The index file of a shard; a shard exists when this file does."""
    return folder / f"shard-{shard:05d}.index.safetensors"


def shard_data(folder: Path, shard: int, generation: int = 0) -> Path:
    """The data file of a shard; later generations carry their number in the name."""
    suffix = f".{generation}" if generation else ""
    return folder / f"shard-{shard:05d}{suffix}.safetensors"


def shards_present(folder: Path) -> list[int]:
    """Numbers of the shards that are complete, ascending."""
    found = (_SHARD_INDEX.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def data_files(folder: Path) -> list[tuple[Path, int, int]]:
    """All data files with their shard and generation, whether an index names them or not."""
    found = ((path, _SHARD_DATA.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return [(path, int(match[1]), int(match[2] or 0)) for path, match in found if match]
