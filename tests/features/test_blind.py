from __future__ import annotations

from clipvil.features.base import FeatureSource
from clipvil.features.blind import BlindSource


def test_says_the_same_of_every_picture() -> None:
    source: FeatureSource = BlindSource()
    batch = source.batch(["a", "b", "a"])
    assert batch.cells.shape == (3, 1, 1) and bool((batch.cells == 1).all())
    assert batch.mask is None and batch.pooled is None and batch.shapes.tolist() == [[1, 1]] * 3
    assert "anything" in source and source.spec.name == source.spec.fingerprint == "question-only"
    assert source.spec.grid_channels == 1
