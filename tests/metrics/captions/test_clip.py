from __future__ import annotations

import numpy as np
import pytest

from clipvil.errors import DataError
from clipvil.metrics.captions import clip_score, ref_clip_score

PICTURES = [[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]
CAPTIONS = [[1.0, 1.0], [0.0, -1.0], [5.0, 5.0]]


def test_clip_score() -> None:
    np.testing.assert_allclose(clip_score(PICTURES, CAPTIONS), [2.5 / np.sqrt(2), 0.0, 2.5])


def test_ref_clip_score_is_the_harmonic_mean_with_the_best_reference() -> None:
    references = [[[0.0, 1.0], [1.0, 1.0]], [[0.0, -1.0]], [[-1.0, -1.0]]]
    score = 2.5 / np.sqrt(2)
    # No agreement on either side makes the whole 0.
    want = [2 * score * 1 / (score + 1), 0.0, 0.0]
    np.testing.assert_allclose(ref_clip_score(PICTURES, CAPTIONS, references), want)


@pytest.mark.parametrize(
    ("pictures", "captions", "message"),
    [
        ([[1.0, 0.0]], [[0.0, 0.0]], "embeddings of captions hold a row that is zero"),
        ([[np.nan, 0.0]], [[1.0, 0.0]], "embeddings of pictures hold a row"),
        ([[1.0, 0.0]], [[1.0, 0.0, 0.0]], r"pictures are \(1, 2\) and of captions \(1, 3\)"),
        ([1.0], [[1.0]], "must be a table"),
    ],
)
def test_faults_are_named(pictures: list[object], captions: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        clip_score(pictures, captions)
    with pytest.raises(DataError, match="references of 1 pictures, but 3 captions"):
        ref_clip_score(PICTURES, CAPTIONS, [[[1.0, 0.0]]])
