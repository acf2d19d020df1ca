"""The loop of an extraction: decoded batches in, records out, with decoding, encoding and writing overlapped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from clipvil.errors import EncoderError
from clipvil.features.backends import Backend, Finish
from clipvil.features.background import Background
from clipvil.features.batches import Bad, Batch, End, Prepare, Work, events
from clipvil.features.recording import Recorder
from clipvil.images.sources import ImageItem
from clipvil.progress import Progress

T = TypeVar("T")


@dataclass
class Clock:
    """Seconds the main thread spent in each stage; their shares tell which side is starving."""

    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "encode": 0.0, "write": 0.0})
    started: float = field(default_factory=time.monotonic)

    def timed(self, stage: str, call: Callable[[], T]) -> T:
        """Call, and add the time it took to the stage."""
        begun = time.monotonic()
        try:
            return call()
        finally:
            self.seconds[stage] += time.monotonic() - begun

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def shares(self) -> dict[str, float]:
        """Fraction of the elapsed time a stage."""
        return {stage: round(seconds / max(self.elapsed, 1e-9), 4) for stage, seconds in self.seconds.items()}


class Loop:
    """Runs work through a backend into a recorder. `canvas` is the size of the first batch's pictures, if any."""

    def __init__(
        self, backend: Backend, recorder: Recorder, prepare: Prepare, *, batch_size: int, workers: int
    ) -> None:
        self.backend, self.recorder, self.prepare = backend, recorder, prepare
        self.batch_size, self.workers = batch_size, workers
        self.clock = Clock()
        self.canvas: tuple[int, int] | None = None

    def run(self, work: Sequence[Work[ImageItem]], bar: Progress) -> None:
        """Do all the work. On any error, or an interrupt, what is incomplete is dropped and the error raised."""
        writer = Background()
        stream = events(work, self.prepare, batch_size=self.batch_size, workers=self.workers)
        try:
            with bar:
                self._pump(stream, writer, bar)
                self.clock.timed("write", writer.close)
        except BaseException:
            writer.stop()
            self.recorder.abort()
            raise
        finally:
            stream.close()  # type: ignore[attr-defined]

    def _pump(self, stream: Iterator[Batch | Bad | End], writer: Background, bar: Progress) -> None:
        # One batch may still be under way on a device while the next one is fetched.
        pending: tuple[Batch, Finish] | None = None

        def settle() -> None:
            if pending is not None:
                batch, finish = pending
                encoded = self.clock.timed("encode", finish)
                self.clock.timed("write", lambda: writer.submit(self.recorder.batch, batch, encoded))
                self._tell(bar, len(batch.positions))

        while (event := self.clock.timed("decode", lambda: next(stream, None))) is not None:
            if isinstance(event, Batch):
                begun = self.clock.timed("encode", lambda batch=event: self._start(batch))  # type: ignore[misc]
                settle()
                pending = (event, begun)
                continue
            settle()
            pending = None
            if isinstance(event, Bad):
                writer.submit(self.recorder.bad, event)
                self._tell(bar, 1)
            else:
                self.clock.timed("write", lambda end=event: writer.submit(self.recorder.end, end.shard))  # type: ignore[misc]

    def _start(self, batch: Batch) -> Finish:
        self.canvas = self.canvas or (int(batch.pixels.shape[2]), int(batch.pixels.shape[3]))
        try:
            return self.backend.start(batch.pixels)
        except torch.OutOfMemoryError as error:
            size = "x".join(map(str, batch.pixels.shape[2:]))
            raise EncoderError(
                f"out of memory on {self.backend.device} with {len(batch.pixels)} pictures of {size} pixels; "
                f"use a smaller --batch-size"
            ) from error

    def _tell(self, bar: Progress, count: int) -> None:
        bar.update(count, **{stage: f"{share:.0%}" for stage, share in self.clock.shares().items()})
