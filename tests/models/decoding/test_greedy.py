from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clipvil.models.decoding import Decoding, decode
from clipvil.models.decoding.steps import CachedSteps
from tests.models.captioners import pictures, recorded, small

CACHE = pytest.mark.parametrize("cache", [True, False], ids=["cache", "plain"])


@CACHE
def test_recorded_captions_and_log_probabilities(cache: bool) -> None:
    model, io = recorded()
    memory = model.encode(io["att_feats"], io["att_masks"].bool())
    found = decode(model, memory, Decoding(max_length=12), cache=cache)
    rows = io["greedy_tokens"]
    assert torch.equal(found.rows[:, 0], rows)
    wanted = io["greedy_logprobs"].gather(2, rows.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(found.log_probs[:, 0], wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.scores[:, 0], wanted.sum(1), atol=1e-4, rtol=0)


@CACHE
def test_recorded_distribution_of_every_step(cache: bool) -> None:
    """Not only the chosen words': the recorded distributions, which are 0 behind the end."""
    model, io = recorded()
    memory = model.encode(io["att_feats"], io["att_masks"].bool())
    rows = io["greedy_tokens"]
    state = model.start(memory)
    before = torch.zeros(len(rows), dtype=torch.int64)
    for place in range(rows.shape[1]):
        inputs = torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :place]], 1)
        said = model.step(before, state) if cache else model.after(memory, inputs)
        live = io["greedy_logprobs"][:, place].any(1)
        torch.testing.assert_close(said[live], io["greedy_logprobs"][live, place], atol=1e-4, rtol=0)
        before = rows[:, place]


@CACHE
def test_recorded_trigrams_and_equal_cells(cache: bool) -> None:
    model, io = recorded()
    memory = model.encode(io["att_feats"], io["att_masks"].bool())
    blocked = decode(model, memory, Decoding(max_length=12, block_trigrams=True), cache=cache)
    assert torch.equal(blocked.rows[:, 0], io["greedy_trigram_tokens"])
    cut = decode(model, model.encode(io["att_feats"][:, :1]), Decoding(max_length=12), cache=cache)
    assert torch.equal(cut.rows[:, 0], io["greedy_equal_cells_tokens"])


def test_ended_captions_are_left_out_of_later_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    cells, mask = pictures(6)
    memory = model.encode(cells, mask)
    sizes: list[int] = []
    step = CachedSteps.step

    def counted(self: CachedSteps, tokens: Tensor) -> Tensor:
        sizes.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(CachedSteps, "step", counted)
    found = decode(model, memory, Decoding())
    lengths = ((found.rows[:, 0] != 0).sum(1) + 1).clamp(max=20)
    assert len(set(lengths.tolist())) > 1, "captions of one length show nothing"
    assert sizes == [int((lengths > place).sum()) for place in range(int(lengths.max()))]


def test_each_word_is_the_likeliest_behind_those_before() -> None:
    model = small()
    cells, mask = pictures(4)
    found = decode(model, model.encode(cells, mask), Decoding(max_length=7))
    rows = found.rows[:, 0]
    log_probs = model(cells, torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :-1]], 1), mask)
    best = log_probs.max(2)
    said = found.log_probs[:, 0] != 0
    assert torch.equal(best.indices[said], rows[said])
    torch.testing.assert_close(best.values[said], found.log_probs[:, 0][said], atol=1e-5, rtol=1e-5)
    assert torch.equal(said.sum(1), ((rows != 0).sum(1) + 1).clamp(max=7))
