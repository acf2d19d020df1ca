"""The features of an encoder for a corpus: extracted once, shared by all seeds and tasks, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipvil.compare.cell_plan import CellPlan
from clipvil.compare.plan import Plan
from clipvil.compare.results import Costs, EncoderRow
from clipvil.compare.suite import BLIND, EncoderEntry
from clipvil.features.base import FeatureSource
from clipvil.features.blind import BlindSource
from clipvil.features.index import STATUSES
from clipvil.features.store import Store
from clipvil.features.without import Without
from clipvil.training.inputs import open_features


def extract_features(cell: CellPlan, plan: Plan, *, retry_failed: bool = False, quiet: bool = False) -> FeatureSource:
    """The features of a cell's pictures, extracted where they are missing, and with `retry_failed` where they failed.

    Raises what extraction raises: an encoder that does not exist, a store that is damaged.
    """
    return open_features(
        cell.recipe,
        cell.task.datasets,
        plan.out / cell.path,
        retry_failed=retry_failed,
        fingerprint=cell.content,
        quiet=quiet,
    )


def stored_features(cell: CellPlan, plan: Plan) -> FeatureSource:
    """The features of a cell's pictures, which were extracted before, but for those that all cells leave out.

    Raises StoreError where there are none.
    """
    path = plan.store_path(cell)
    source: FeatureSource = BlindSource() if path is None else Store.open(path)
    return Without(source, cell.task.left_out) if cell.task.left_out else source


def encoder_row(entry: EncoderEntry, slug: str, cell: CellPlan, plan: Plan) -> EncoderRow:
    """What is known of an encoder: as asked for, and as its store says once there is one."""
    row = EncoderRow(label=entry.title, name=entry.name, slug=slug, floor=entry.name == BLIND)
    path = plan.store_path(cell)
    if path is None or not (path / "manifest.json").exists():
        return row
    store = Store.open(path)
    manifest = store.manifest
    return row.model_copy(
        update={
            "layer": manifest.encoder.layer or None,
            "resize": manifest.resize,
            "precision": manifest.precision.choice,
            "fingerprint": manifest.encoder.fingerprint,
            "grid": _grid(store),
            "costs": _costs(store.cost()),
        }
    )


def _costs(cost: Mapping[str, Any]) -> Costs:
    def number(name: str) -> float | None:
        value = cost.get(name)
        return float(value) if isinstance(value, (int, float)) else None

    parameters = number("parameters")
    return Costs(
        parameters=None if parameters is None else int(parameters),
        gflops=number("gflops"),
        pictures_per_second=number("pictures_per_second"),
        store_bytes=number("bytes_per_picture"),
    )


def _grid(store: Store) -> str:
    """Shape of the features of the first picture, and whether others differ."""
    rows = store.rows()
    good = rows[rows["status"] == STATUSES.index("ok")]
    if not len(good):
        return ""
    heights, widths, channels = good["height"], good["width"], store.manifest.encoder.grid_channels
    if store.manifest.cells != "grid":
        low, high = int(heights.min()), int(heights.max())
        return f"{low if low == high else f'{low} to {high}'} regions x {channels}"
    others = bool((heights != heights[0]).any() or (widths != widths[0]).any())
    return f"{heights[0]} x {widths[0]} x {channels}" + (" and others" if others else "")
