"""Small stores written directly, without pictures or encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from clipvil.encoders.base import Preprocess
from clipvil.features import layout
from clipvil.features.finalise import finalise
from clipvil.features.locked import exclusive_write
from clipvil.features.manifest import EncoderEntry, Manifest, PrecisionEntry, items_digest
from clipvil.features.shard import Failure, Placement, ShardWriter

PREPROCESS = Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", (32, 32))
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def make_manifest(
    ids: list[str], *, dtype: str = "float16", channels: int = 3, pooled: int | None = 2, shard_size: int = 4
) -> Manifest:
    return Manifest.model_validate(
        {
            "encoder": EncoderEntry(
                name="tiny",
                fingerprint="0123456789abcdef",
                layer="last",
                positions="resized",
                grid_channels=channels,
                pooled_channels=pooled,
                stride=8,
                preprocess=PREPROCESS,
            ),
            "resize": "square:32",
            "dtype": dtype,
            "precision": PrecisionEntry(choice="fp32", cosine=1.0, backend="torch", device="cpu"),
            "shard_size": shard_size,
            "batch_size": 2,
            "total": len(ids),
            "items": items_digest(ids),
            "source": "synthetic",
        }
    )


def as_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def grid_of(number: int, shape: tuple[int, int], manifest: Manifest) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    grid = torch.randn(*shape, manifest.encoder.grid_channels, generator=generator)
    return grid.to(TORCH[manifest.dtype])


def pooled_of(number: int, manifest: Manifest) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100_000 + number)
    return torch.randn(manifest.encoder.pooled_channels or 0, generator=generator).to(TORCH[manifest.dtype])


def write_store(
    folder: Path,
    ids: list[str],
    *,
    shapes: list[tuple[int, int]] | None = None,
    failed: dict[str, str] | None = None,
    join: bool = True,
    skip_shards: tuple[int, ...] = (),
    **settings: object,
) -> Manifest:
    """A store in which picture number k has the grid `grid_of(k)`; shapes repeat over the pictures."""
    manifest = make_manifest(ids, **settings)  # type: ignore[arg-type]
    shapes, failed = shapes or [(2, 3)], failed or {}
    folder.mkdir(parents=True)
    with exclusive_write(folder / layout.MANIFEST) as stream:
        stream.write(manifest.to_bytes())
    for shard in range(manifest.shards):
        if shard in skip_shards:
            continue
        writer = ShardWriter(folder, shard, manifest)
        positions = range(manifest.shard_length(shard))
        # Written backwards, since the order on disk is that of encoding and not that of the source.
        for position in reversed(positions):
            number = shard * manifest.shard_size + position
            image_id, shape = ids[number], shapes[number % len(shapes)]
            if image_id in failed:
                writer.fail(position, Failure(image_id, f"/pictures/{image_id}", failed[image_id], "cannot be used"))
                continue
            pooled = as_bytes(pooled_of(number, manifest)) if manifest.encoder.pooled_channels else b""
            placement = Placement(image_id, (100 + number, 200), (-3, 1, 38, 31))
            writer.add(position, placement, shape, as_bytes(grid_of(number, shape, manifest)), pooled)
        writer.commit()
    if join:
        finalise(folder, manifest)
    return manifest


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder except the cost record, which holds times."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != layout.COST}


def synthetic_index(count: int) -> tuple[list[str], np.ndarray]:
    """Ids and rows of a large index without data."""
    from clipvil.features.index import ROW

    rows = np.zeros(count, ROW)
    rows["height"], rows["width"] = 7, 7
    return [f"train/COCO_{number:012d}.jpg" for number in range(count)], rows
