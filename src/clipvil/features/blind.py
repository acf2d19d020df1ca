"""Features that say nothing: the question-only row, the floor of what language alone gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from clipvil.encoders.base import EncoderSpec
from clipvil.features.base import GridBatch


class BlindSource:
    """A FeatureSource that gives every picture the same grid of one cell, a single 1."""

    spec = EncoderSpec(name="question-only", fingerprint="question-only", grid_channels=1)

    def __contains__(self, image_id: object) -> bool:
        return True

    def batch(self, image_ids: Sequence[str]) -> GridBatch:
        """cells (B, 1, 1) of ones, whatever the ids."""
        count = len(image_ids)
        return GridBatch(torch.ones(count, 1, 1), None, torch.ones(count, 2, dtype=torch.int64))
