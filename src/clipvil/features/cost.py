"""What an extraction cost, beside the store and apart from its manifest: times differ from run to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipvil.encoders.base import Encoder
from clipvil.encoders.cost import gflops, parameters
from clipvil.errors import ClipvilError
from clipvil.features import layout
from clipvil.features.locked import exclusive_write


def encoder_cost(encoder: Encoder, canvas: tuple[int, int]) -> dict[str, Any]:
    """Parameters, and GFLOPs (multiply-adds count twice) for one picture of `canvas` (height, width) pixels."""
    try:
        needed: float | None = round(gflops(encoder, canvas), 6)
    except (ClipvilError, RuntimeError):
        needed = None  # an operation that the counter does not know says nothing about the features
    return {"parameters": parameters(encoder), "gflops": needed, "canvas": list(canvas)}


def record_cost(folder: Path, values: dict[str, Any]) -> None:
    """Write `cost.json`: the newest run's values, and those of earlier runs under "runs"."""
    path = folder / layout.COST
    with exclusive_write(path) as stream:
        try:
            earlier = json.loads(path.read_bytes()).get("runs", [])
        except (OSError, ValueError, AttributeError):
            earlier = []
        kept = earlier if isinstance(earlier, list) else []
        run = {key: values[key] for key in ("pictures", "seconds", "pictures_per_second", "shares", "slice", "threads")}
        text = json.dumps({**values, "runs": [*kept, run]}, indent=1)
        stream.write(text.encode() + b"\n")
