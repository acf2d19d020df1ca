"""metrics.jsonl: one line an event, appended; a resumed run leaves the log that an undisturbed one would have left."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from clipvil.files import atomic_write


class MetricLog:
    """Appends events to a JSONL file. Every line has "event" and "step".

    A process killed while it writes leaves at most a torn last line; `rewind` removes it together with everything
    that lies after the step from which a run is resumed, because the run will write that again.
    """

    def __init__(self, path: Path, *, enabled: bool = True) -> None:
        """`enabled` is false in all processes but the first."""
        self.path, self.enabled = path, enabled
        if enabled:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, event: str, step: int, **values: Any) -> None:
        """Append one line. Not yet on disk for certain: call `sync`."""
        if self.enabled:
            line = json.dumps({"event": event, "step": step, **values}, ensure_ascii=False, allow_nan=False)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    def sync(self) -> None:
        """Force everything written so far to the disk."""
        if self.enabled and self.path.exists():
            handle = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def rewind(self, step: int) -> None:
        """Keep the whole lines up to and including `step`; forget a torn last line and everything later."""
        if not self.enabled or not self.path.exists():
            return
        kept = [line for line in read_lines(self.path) if line["step"] <= step]
        with atomic_write(self.path) as stream:
            for line in kept:
                stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a torn last line is left out."""
    lines = []
    for raw in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(raw)
            if isinstance(value, dict) and isinstance(value.get("step"), int):
                lines.append(value)
    return lines
