"""Training that stops in its middle, as a kill would stop it, for tests that go on from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clipvil.training import loop as loops


class Stopped(Exception):
    pass


@contextmanager
def stopped_after(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """Training inside the block fails as soon as the checkpoint of a step was written; that it does is checked."""
    save = loops.Loop._save

    def saving(self: loops.Loop) -> None:
        save(self)
        if self.position.step == step:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(loops.Loop, "_save", saving)
        with pytest.raises(Stopped):
            yield
