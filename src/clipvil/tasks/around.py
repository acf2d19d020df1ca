"""What tasks share that are put around another one and change how it is shown its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipvil.tasks.base import Prediction, Scores, Task


class Around:
    """The words, the scores and the files are those of the task inside."""

    def __init__(self, inner: Task) -> None:
        self.inner = inner
        self.metric, self.record_type = inner.metric, inner.record_type

    def prepare(self, train: Sequence[Any]) -> None:
        """See `Task.prepare`."""
        self.inner.prepare(train)

    def assets(self) -> dict[str, Any]:
        """See `Task.assets`."""
        return self.inner.assets()

    def restore(self, assets: Mapping[str, Any]) -> None:
        """See `Task.restore`."""
        self.inner.restore(assets)

    def score(self, predictions: Sequence[Prediction], records: Sequence[Any]) -> Scores:
        """See `Task.score`."""
        return self.inner.score(predictions, records)

    def submission(self, predictions: Sequence[Prediction], path: Path) -> None:
        """See `Task.submission`."""
        self.inner.submission(predictions, path)
