"""Predictions as they come, so that a long evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from clipvil.tasks.base import Prediction


def partial_path(run: Path, split: str) -> Path:
    """Where a run keeps the predictions of an evaluation that is not finished."""
    return run / f"partial_{split}.jsonl"


class KeyedLog:
    """A file of JSON lines, appended to while long work goes on, and taken up by whoever goes on with the same work.

    `key` says what is being done with what; a file of another key is begun anew. `take` is called with every whole line
    that is there, in order, and raises ValueError, TypeError or KeyError for one that it cannot use: from there on, and
    from a line on that was being written when the process died, everything is dropped.
    """

    def __init__(self, path: Path, key: str, take: Callable[[Any], None]) -> None:
        self.path, self.key = path, key
        end = self._read(take)
        self._stream = path.open("r+b" if end else "wb")
        self._stream.truncate(end)
        self._stream.seek(end)
        if not end:
            self.add({"key": key})

    def add(self, value: object) -> None:
        """Append a line; it is on the disk when this returns."""
        self._stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def lines(self) -> Iterator[Any]:
        """What was added so far, read again from the disk, the key left out."""
        with self.path.open("rb") as stream:
            next(stream)
            for line in stream:
                yield json.loads(line)

    def close(self) -> None:
        """Close the file; nothing can be added afterwards."""
        self._stream.close()

    def _read(self, take: Callable[[Any], None]) -> int:
        """Take in what is whole, line by line; returns where that ends."""
        end = 0
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return 0
        with stream:
            for number, line in enumerate(stream):
                try:
                    if not line.endswith(b"\n"):
                        break
                    value = json.loads(line)
                    if number == 0 and value != {"key": self.key}:
                        return 0
                    if number:
                        take(value)
                except (ValueError, TypeError, KeyError):
                    break
                end += len(line)
        return end


class PartialPredictions:
    """A `KeyedLog` of finished batches, one a line, thrown away when all is done. Numbers come back to the last bit."""

    def __init__(self, path: Path, key: str) -> None:
        self.done: dict[int, list[Prediction]] = {}
        self._log = KeyedLog(path, key, self._take)

    def add(self, batch: int, predictions: Sequence[Prediction]) -> None:
        """Keep a batch; it is on the disk when this returns."""
        self._log.add({"batch": batch, "predictions": [prediction.to_json() for prediction in predictions]})

    def __enter__(self) -> PartialPredictions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def _take(self, value: Any) -> None:
        self.done[int(value["batch"])] = [_prediction(item) for item in value["predictions"]]


def _prediction(value: dict[str, object]) -> Prediction:
    top = tuple((str(output), float(share)) for output, share in value.pop("top"))  # type: ignore[attr-defined]
    return Prediction(**value, top=top)  # type: ignore[arg-type]
