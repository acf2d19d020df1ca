"""One thread that does calls in order while the caller goes on: how writing overlaps with encoding."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any


class Background:
    """Runs submitted calls one after another in a thread, at most `ahead` of them waiting.

    The first exception stops the work and is raised in the caller, by the next `submit` or by `close`.
    """

    def __init__(self, ahead: int = 2) -> None:
        self._calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.Queue(ahead)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="clipvil-writer", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Queue a call; waits while the queue is full."""
        self._raise()
        self._calls.put((call, arguments))

    def close(self) -> None:
        """Wait until everything submitted is done."""
        self._stop()
        self._raise()

    def stop(self) -> None:
        """As `close`, but raises nothing: for when another error is on its way and finished work is to be kept."""
        self._stop()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            # After an error the queue is still emptied, so that nobody waits for a place in it.
            if self._error is None:
                call, arguments = item
                try:
                    call(*arguments)
                except BaseException as error:
                    self._error = error
