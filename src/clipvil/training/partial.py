"""Predictions as they come, so that a long evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from clipvil.tasks.base import Prediction


def partial_path(run: Path, split: str) -> Path:
    """Where a run keeps the predictions of an evaluation that is not finished."""
    return run / f"partial_{split}.jsonl"


class PartialPredictions:
    """A file of finished batches, one a line, appended to and thrown away when all is done.

    `key` says what is being predicted by what; a file of another key is begun anew. A line that was being written when
    the process died is dropped. Numbers come back to the last bit.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.done: dict[int, list[Prediction]] = {}
        end = self._read()
        self._stream = path.open("r+b" if end else "wb")
        self._stream.truncate(end)
        self._stream.seek(end)
        if not end:
            self._line({"key": key})

    def add(self, batch: int, predictions: Sequence[Prediction]) -> None:
        """Keep a batch; it is on the disk when this returns."""
        self._line({"batch": batch, "predictions": [prediction.to_json() for prediction in predictions]})

    def __enter__(self) -> PartialPredictions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def _line(self, value: object) -> None:
        self._stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _read(self) -> int:
        """Take in what is whole; returns where that ends."""
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return 0
        end = 0
        for number, line in enumerate(lines):
            try:
                if not line.endswith(b"\n"):
                    break
                value = json.loads(line)
                if number == 0 and value != {"key": self.key}:
                    return 0
                if number:
                    self.done[int(value["batch"])] = [_prediction(item) for item in value["predictions"]]
            except (ValueError, TypeError, KeyError):
                break
            end += len(line)
        return end


def _prediction(value: dict[str, object]) -> Prediction:
    top = tuple((str(output), float(share)) for output, share in value.pop("top"))  # type: ignore[attr-defined]
    return Prediction(**value, top=top)  # type: ignore[arg-type]
