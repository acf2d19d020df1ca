"""Small stores and foreign files of every format."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import torch

from clipvil.features.foreign.base import Options
from clipvil.features.foreign.exporting import export_features
from clipvil.features.foreign.importing import ImportReport, import_features
from clipvil.features.store import Store
from tests.features.build import write_store

IDS = [f"COCO_val2014_{number:012d}" for number in (42, 73, 74, 133, 136, 139, 143)]


def grids(number: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(number).standard_normal(shape).astype(np.float32)


def tsv_line(image_id: str, number: int, regions: int, channels: int = 5) -> bytes:
    """A line of the six-column TSV: 640 x 480 pixels, `grids(number)` as features."""
    boxes = (np.abs(grids(number + 1000, (regions, 4))) * 100).astype("<f4")
    features = grids(number, (regions, channels)).astype("<f4")
    fields = [image_id.encode(), b"640", b"480", str(regions).encode()]
    return b"\t".join([*fields, *(base64.b64encode(array.tobytes()) for array in (boxes, features))]) + b"\n"


def write_tsv(path: Path, count: int = 6, channels: int = 5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(tsv_line(str(100 + n), n, 10 + 3 * (n % 3), channels) for n in range(count)))
    return path


def region_store(folder: Path) -> Store:
    """A store of regions with boxes, imported from a TSV."""
    take(write_tsv(folder / "regions.tsv"), "bottom-up-tsv", folder / "regions", shard_size=4)
    return Store.open(folder / "regions")


def grid_store(folder: Path, **settings: object) -> Store:
    write_store(folder / "store", IDS, channels=8, **settings)  # type: ignore[arg-type]
    return Store.open(folder / "store")


def take(source: Path, format: str, out: Path, **settings: object) -> ImportReport:
    options = {key: settings.pop(key) for key in list(settings) if key in vars(Options())}
    return import_features(
        source,
        format=format,
        encoder_name="theirs",
        out=out,
        options=Options(**options),
        progress=False,
        **settings,  # type: ignore[arg-type]
    )


def give(store: Path, format: str, out: Path) -> Path:
    export_features(store, format=format, out=out, progress=False)
    return out


def same(first: Store, second: Store) -> None:
    """Both hold the same pictures with equal values; the second in a type that holds those of the first."""
    assert sorted(first.ids()) == sorted(second.ids()) and len(first) > 0
    for image_id in first.ids():
        one, two = first[image_id], second[image_id]
        assert one.grid.shape == two.grid.shape
        assert torch.equal(one.grid.double(), two.grid.double())
        assert (one.boxes is None) == (two.boxes is None)
        if one.boxes is not None and two.boxes is not None:
            assert torch.equal(one.boxes, two.boxes) and one.original_size == two.original_size
