"""`clipvil features info`: what a store holds, for people and for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipvil.features import layout
from clipvil.features.index import STATUSES
from clipvil.features.store import Store


@dataclass(frozen=True)
class Info:
    """The facts of one store. `shapes` counts the grid shapes ("7x7"), `failures` the reasons; `bytes` of all files.

    `missing` names data files that are gone.
    """

    path: str
    manifest: dict[str, Any]
    complete: bool
    pictures: int
    failures: dict[str, int]
    shapes: dict[str, int]
    shards: int
    bytes: int
    cost: dict[str, Any]
    missing: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The facts as text, one a line."""
        entry, precision = self.manifest["encoder"], self.manifest["precision"]
        pooled = f", pooled {entry['pooled_channels']}" if entry["pooled_channels"] else ""
        left = self.manifest["total"] - self.pictures - sum(self.failures.values())
        common = sorted(self.shapes.items(), key=lambda pair: -pair[1])
        more = f" and {len(common) - 5} more" if len(common) > 5 else ""
        failed = ", ".join(f"{count} {reason}" for reason, count in sorted(self.failures.items()))
        out = [
            f"store       {self.path}",
            f"encoder     {entry['name']} (fingerprint {entry['fingerprint']}, layer {entry['layer']}, positions "
            f"{entry['positions']})",
            f"{_KINDS[self.manifest['cells']]:<12}{entry['grid_channels']} channels{pooled}, {self.manifest['dtype']}, "
            f"resize {self.manifest['resize']}, "
            + (f"{entry['stride']} pixels a cell" if entry["stride"] else "computed elsewhere"),
            _precision(precision),
            f"pictures    {self.pictures} of {self.manifest['total']} from {self.manifest['source']}"
            + (f", {left} still to be done" if left else ""),
            f"failures    {failed or 'none'}",
            f"shapes      {', '.join(f'{shape} ({count})' for shape, count in common[:5])}{more}",
            f"files       {self.bytes / 1e6:.1f} MB, {self.shards} shards of {self.manifest['shard_size']} pictures",
        ]
        if self.missing:
            some = ", ".join(self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
            count = len(self.missing)
            out.append(
                f"MISSING     {count} data file{'s' if count > 1 else ''}: {some}; extract again to mend the store"
            )
        if "pictures_per_second" in self.cost:
            shares = ", ".join(f"{stage} {share:.0%}" for stage, share in self.cost.get("shares", {}).items())
            out.append(f"speed       {self.cost['pictures_per_second']:.1f} pictures/s ({shares})")
        if self.cost.get("gflops") is not None:
            out.append(
                f"cost        {self.cost['gflops']:.2f} GFLOPs a picture, {self.cost['parameters']:,} parameters"
            )
        return out


_KINDS = {"grid": "grids", "regions": "regions", "boxes": "boxes"}


def _precision(entry: dict[str, Any]) -> str:
    if entry["cosine"] is None:
        return f"precision   {entry['choice']}"
    return (
        f"precision   {entry['choice']} on {entry['device']} through {entry['backend']}, "
        f"cosine to fp32 {entry['cosine']:.6f}"
    )


def describe(path: str | Path) -> Info:
    """Read the facts of a store, of an unfinished one as well. Raises StoreError."""
    store = Store.open(path)
    rows = store.rows()
    good = rows[rows["status"] == STATUSES.index("ok")]
    shapes, counts = np.unique(np.stack([good["height"], good["width"]], 1), axis=0, return_counts=True)
    numbers = Counter(rows["status"].tolist())
    return Info(
        path=str(path),
        manifest=store.manifest.model_dump(mode="json"),
        complete=store.complete,
        pictures=len(store),
        failures={STATUSES[status]: count for status, count in numbers.items() if 0 < status < len(STATUSES)},
        shapes={f"{height}x{width}": int(count) for (height, width), count in zip(shapes, counts, strict=True)},
        shards=len(layout.shards_present(store.path)),
        bytes=sum(file.stat().st_size for file in store.path.iterdir() if file.is_file()),
        cost=store.cost(),
        missing=[file.name for file in store.missing_files()],
    )
