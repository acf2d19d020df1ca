"""Joining the shards of a complete store: one index and one list of failures, both made anew from the shards."""

from __future__ import annotations

from pathlib import Path

from clipvil.errors import StoreError
from clipvil.features import layout
from clipvil.features.index import Index
from clipvil.features.locked import exclusive_write
from clipvil.features.manifest import Manifest
from clipvil.features.shard import generation_of, load_shard_index


def merged_index(folder: Path, manifest: Manifest) -> tuple[Index, bytes, int]:
    """The index over all shards present, their failures as JSON lines, and how many shards there are."""
    parts = [load_shard_index(folder, shard, manifest) for shard in layout.shards_present(folder)]
    generations = [generation_of(part) for part in parts]
    index = Index.merge(parts, where=str(folder), generations=generations)
    return index, b"".join(part.failures for part in parts), len(parts)


def finalise(folder: Path, manifest: Manifest) -> bool:
    """Write `failures.jsonl` and `index.safetensors` if every shard is there; returns whether it was.

    Safe to call by whoever finishes last, by several at once, or again: the same shards give the same bytes.
    """
    if len(layout.shards_present(folder)) != manifest.shards:
        return False
    index, failures, _ = merged_index(folder, manifest)
    if len(index) != manifest.total:
        raise StoreError(f"{folder}: damaged: {len(index)} pictures in the shards, {manifest.total} in the manifest")
    with exclusive_write(folder / layout.FAILURES) as stream:
        stream.write(failures)
    # Last: its presence says that the store is complete.
    with exclusive_write(folder / layout.INDEX) as stream:
        index.write(stream)
    return True


def unfinalise(folder: Path) -> None:
    """Remove the joined files, before a shard is replaced under them."""
    for name in (layout.INDEX, layout.FAILURES):
        (folder / name).unlink(missing_ok=True)
