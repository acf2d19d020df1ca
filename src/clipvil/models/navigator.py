"""What navigation trains: a follower, a speaker, or both in one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from clipvil.models.envdrop import EnvDrop
from clipvil.models.envdrop_config import EnvDropConfig
from clipvil.models.envdrop_speaker import Speaker

T = TypeVar("T")


class Navigator(nn.Module):
    """A follower and a speaker, either of which may be missing."""

    def __init__(self, follower: EnvDrop | None, speaker: Speaker | None) -> None:
        super().__init__()
        self.follower, self.speaker = follower, speaker

    @property
    def config(self) -> EnvDropConfig:
        """That of the follower, or of the speaker where there is none."""
        part = self.follower or self.speaker
        assert part is not None
        return part.config

    def forward(self, work: Callable[[Navigator], T]) -> T:
        """`work(self)`: a whole rollout is one call, so that a wrapper of several processes sees it as one."""
        return work(self)
