from __future__ import annotations

from typing import Any

import pytest

from clipvil.errors import UsageError
from clipvil.models.decoding import Decoding


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "best"}, "method must be greedy, sample, beam, not 'best'"),
        ({"beams": 0}, "'beams' must be at least 1, not 0"),
        ({"max_length": 0}, "'max_length' must be at least 1"),
        ({"beams": 5, "groups": 2}, "5 beams cannot be shared among 2 groups"),
        ({"length_penalty": "wu"}, "'length_penalty' must be '', avg or wu_0.9, not 'wu'"),
        ({"length_penalty": "wu_-1"}, "'length_penalty' must be"),
        ({"temperature": 0.0}, "'temperature' must be above 0"),
        ({"temperature": float("nan")}, "'temperature' must be above 0"),
        ({"top_k": -1}, "'top_k' must be at least 0"),
        ({"top_p": 0.0}, "'top_p' above 0"),
        ({"diversity": -0.1}, "'diversity' must be at least 0"),
    ],
)
def test_what_cannot_be_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Decoding(**options)


def test_penalties_divide_by_the_number_of_tokens() -> None:
    assert Decoding().divisor(7) == 1
    assert Decoding(length_penalty="avg").divisor(7) == 7
    assert Decoding(length_penalty="wu_0.5").divisor(19) == pytest.approx(2)


def test_captions_of_a_picture() -> None:
    assert Decoding().captions == 1
    assert Decoding(method="sample", samples=7).captions == 7
    assert Decoding(method="beam", beams=4, groups=2).captions == 4
