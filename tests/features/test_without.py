from __future__ import annotations

import pytest

from clipvil.errors import StoreError
from clipvil.features.base import pooled_of
from clipvil.features.blind import BlindSource
from clipvil.features.without import Without, bare


def test_hidden_pictures_are_absent_and_the_others_as_they_were() -> None:
    source = BlindSource()
    features = Without(source, {"a"})
    assert "a" not in features and "b" in features and features.spec == source.spec
    assert features.batch(["b", "b"]).cells.shape == (2, 1, 1)
    assert pooled_of(features, ["b"]) is None
    for ask in (features.batch, features.pooled):
        with pytest.raises(StoreError, match="picture 'a' is left out"):
            ask(["b", "a"])
    assert bare(Without(features, {"b"})) is source and bare(source) is source
