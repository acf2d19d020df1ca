from __future__ import annotations

import pytest
import torch

from clipvil.models.decoding import Decoding, decode
from tests.models.captioners import pictures, small

METHODS = pytest.mark.parametrize("method", ["greedy", "sample", "beam"])


@METHODS
def test_dropout_is_off_and_what_was_training_trains_on(method: str) -> None:
    model = small()
    cells, mask = pictures(3)
    memory = model.encode(cells, mask)
    options = Decoding(method=method, max_length=6)  # type: ignore[arg-type]
    wanted = decode(model, memory, options, torch.Generator().manual_seed(0))
    model.train()
    model.output.eval()
    found = decode(model, memory, options, torch.Generator().manual_seed(0))
    assert torch.equal(found.rows, wanted.rows)
    assert model.training and model.decoder.training and not model.output.training
    assert not found.log_probs.requires_grad


@METHODS
def test_shapes_and_zeros_behind_the_end(method: str) -> None:
    model = small()
    cells, mask = pictures(3)
    options = Decoding(method=method, beams=4, samples=3, max_length=9)  # type: ignore[arg-type]
    found = decode(model, model.encode(cells, mask), options)
    assert found.rows.shape == found.log_probs.shape == (3, options.captions, 9)
    assert found.rows.dtype == torch.int64
    assert found.scores.shape == (3, options.captions)
    behind = (found.rows == 0).cumsum(2) > 1
    assert not found.rows[behind].any() and not found.log_probs[behind].any()


@METHODS
def test_one_word_at_most(method: str) -> None:
    model = small()
    cells, mask = pictures(2)
    found = decode(model, model.encode(cells, mask), Decoding(method=method, max_length=1))  # type: ignore[arg-type]
    assert found.rows.shape[2] == 1


@METHODS
def test_half_precision_weights_decode(method: str) -> None:
    model = small().bfloat16()
    cells, mask = pictures(2)
    found = decode(model, model.encode(cells.bfloat16(), mask), Decoding(method=method, max_length=5))  # type: ignore[arg-type]
    assert torch.isfinite(found.scores).all() and found.log_probs.dtype == torch.float32
