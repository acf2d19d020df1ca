from __future__ import annotations

import math

import torch

from clipvil.models.decoding import Decoding
from clipvil.models.decoding.rules import ruled


def test_without_rules_nothing_changes() -> None:
    log_probs = torch.randn(2, 5)
    assert torch.equal(ruled(log_probs, torch.tensor([[1, 1, 1], [2, 3, 2]]), Decoding()), log_probs)


def test_rules_take_off_what_they_say() -> None:
    log_probs = torch.zeros(2, 5)
    said = torch.tensor([[1, 2, 3, 1, 2, 3, 1, 2], [4, 4, 4, 4, 4, 4, 4, 4]])
    blocked = ruled(log_probs, said, Decoding(block_trigrams=True))
    # 1 2 3 came twice; 4 4 4 six times before.
    assert torch.allclose(blocked[0], torch.tensor([0, 0, 0, -4 * math.log(2), 0]))
    assert torch.allclose(blocked[1], torch.tensor([0, 0, 0, 0, -12 * math.log(2)]))
    assert ruled(log_probs, said, Decoding(no_repeat=True))[0].tolist() == [0, 0, -math.inf, 0, 0]
    assert ruled(log_probs, said, Decoding(suppress_unknown=True))[1].tolist() == [0, 0, 0, 0, -1000]
    assert not log_probs.any(), "the model's own values must stay as they are"


def test_nothing_said_yet() -> None:
    log_probs = torch.zeros(2, 5)
    everything = Decoding(no_repeat=True, block_trigrams=True)
    for length in (0, 1, 2):
        said = torch.ones(2, length, dtype=torch.int64)
        wanted = [0, -math.inf if length else 0, 0, 0, 0]
        assert ruled(log_probs, said, everything)[0].tolist() == wanted
