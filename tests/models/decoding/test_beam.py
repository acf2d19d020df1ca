from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from clipvil.models.decoding import Decoded, Decoding, decode
from clipvil.models.decoding.steps import CachedSteps
from clipvil.models.transformer_captioner import TransformerCaptioner
from tests.models.captioners import pictures, recorded, small
from tests.models.decoding.plain_beam import plain_beam

CACHE = pytest.mark.parametrize("cache", [True, False], ids=["cache", "plain"])


def beams(model: TransformerCaptioner, cells: Tensor, mask: Tensor | None, *, cache: bool = True, **o: Any) -> Decoded:
    options = Decoding(method="beam", **o)
    with torch.no_grad():
        return decode(model, model.encode(cells, mask), options, cache=cache)


@CACHE
@pytest.mark.parametrize("width", [3, 5])
def test_recorded_beams_and_scores(width: int, cache: bool) -> None:
    model, io = recorded()
    found = beams(model, io["att_feats"], io["att_masks"].bool(), cache=cache, beams=width, max_length=12)
    assert torch.equal(found.rows, io[f"beam{width}_all_tokens"])
    assert torch.equal(found.rows[:, 0], io[f"beam{width}_tokens"])
    torch.testing.assert_close(found.scores, io[f"beam{width}_all_scores"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.scores[:, 0], io[f"beam{width}_score"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.log_probs[:, 0], io[f"beam{width}_token_logprobs"], atol=1e-4, rtol=0)


@CACHE
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wu", {"length_penalty": "wu_0.9"}),
        ("avg", {"length_penalty": "avg"}),
        ("no_unk", {"suppress_unknown": True}),
        ("no_repeat", {"no_repeat": True}),
    ],
)
def test_recorded_options(name: str, options: dict[str, Any], cache: bool) -> None:
    model, io = recorded()
    found = beams(model, io["att_feats"], io["att_masks"].bool(), cache=cache, beams=3, max_length=12, **options)
    assert torch.equal(found.rows[:, 0], io[f"beam3_{name}_tokens"])
    if f"beam3_{name}_score" in io:
        torch.testing.assert_close(found.scores[:, 0], io[f"beam3_{name}_score"], atol=1e-4, rtol=0)


@CACHE
def test_recorded_equal_cells(cache: bool) -> None:
    model, io = recorded()
    cells = io["att_feats"][:, :1]
    for mask in (None, torch.ones(5, 1, dtype=torch.bool)):
        found = beams(model, cells, mask, cache=cache, beams=3, max_length=12)
        assert torch.equal(found.rows[:, 0], io["beam3_equal_cells_tokens"])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {"beams": 3},
        {"beams": 4, "length_penalty": "avg", "temperature": 0.7},
        {"beams": 2, "length_penalty": "wu_0.9", "suppress_unknown": True, "no_repeat": True},
        {"beams": 3, "block_trigrams": True},
        {"beams": 6, "groups": 3, "diversity": 0.8},
        {"beams": 4, "groups": 2, "diversity": 0.3, "length_penalty": "avg"},
    ],
    ids=str,
)
def test_the_search_is_that_of_a_plain_one(options: dict[str, Any], seed: int) -> None:
    """Batched, cached and ended as early as can be, it finds what one beam after another finds over all places."""
    model = small(seed=seed)
    cells, mask = pictures(3, seed=seed)
    chosen = Decoding(method="beam", max_length=8, **options)
    found = decode(model, model.encode(cells, mask), chosen)
    width = chosen.beams // chosen.groups
    for i, groups in enumerate(plain_beam(model, model.encode(cells, mask), chosen)):
        for place, (score, words, parts) in enumerate(caption for group in groups for caption in group):
            padded = [*words, *[0] * (8 - len(words))]
            assert found.rows[i, place].tolist() == padded, (i, place, width)
            assert found.scores[i, place].item() == pytest.approx(score, abs=1e-4)
            assert found.log_probs[i, place, : len(parts)].tolist() == pytest.approx(parts, abs=1e-4)


def test_the_first_group_is_plain_beam_search_of_its_width() -> None:
    model = small()
    cells, mask = pictures(5)
    plain = beams(model, cells, mask, beams=2)
    found = beams(model, cells, mask, beams=6, groups=3, diversity=2.0)
    assert torch.equal(found.rows[:, :2], plain.rows)
    torch.testing.assert_close(found.scores[:, :2], plain.scores)


def test_without_strength_groups_are_equal_and_with_it_they_differ() -> None:
    model = small()
    cells, mask = pictures(5)
    equal = beams(model, cells, mask, beams=6, groups=3, diversity=0.0)
    for group in (1, 2):
        assert torch.equal(equal.rows[:, 2 * group : 2 * group + 2], equal.rows[:, :2])
    apart = beams(model, cells, mask, beams=6, groups=3, diversity=2.0)
    for i in range(5):
        assert len({tuple(row) for row in apart.rows[i].tolist()}) > len({tuple(row) for row in equal.rows[i].tolist()})
    # What diversity takes off moves the order, and not the log-probabilities of the words.
    memory = model.encode(cells, mask)
    rows = apart.rows.flatten(0, 1)
    inputs = torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :-1]], 1)
    own = model.decode(memory, inputs).gather(2, rows.unsqueeze(2)).squeeze(2).view(apart.log_probs.shape)
    said = apart.log_probs != 0
    torch.testing.assert_close(apart.log_probs[said], own[said], atol=1e-4, rtol=1e-4)


def test_no_word_follows_itself_and_no_trigram_comes_twice() -> None:
    model = small()
    with torch.no_grad():
        model.output.bias[0] = -8.0  # hardly any end
    cells, mask = pictures(4)
    free = beams(model, cells, mask, beams=3).rows
    assert (free[:, :, 1:] == free[:, :, :-1]).any()
    rows = beams(model, cells, mask, beams=3, no_repeat=True).rows
    assert not ((rows[:, :, 1:] == rows[:, :, :-1]) & (rows[:, :, 1:] != 0)).any()

    def doubled(rows: Tensor) -> int:
        triples = [[tuple(row[i : i + 3]) for i in range(len(row) - 2)] for row in rows.flatten(0, 1).tolist()]
        return sum(len(own) - len(set(own)) for own in triples)

    assert doubled(beams(model, cells, mask, beams=3, block_trigrams=True).rows) < doubled(free)


def test_a_vocabulary_smaller_than_the_beams() -> None:
    """Three classes and one word at most: there are three captions, and places of no caption are said to be so."""
    model = small(words=3)
    cells, mask = pictures(2)
    found = beams(model, cells, mask, beams=5, max_length=1)
    assert torch.isfinite(found.scores).sum(1).tolist() == [3, 3]
    assert sorted(found.rows[0, :3, 0].tolist()) == [0, 1, 2]
    assert not found.rows[:, 3:].any() and not found.log_probs[:, 3:].any()


def test_a_picture_leaves_the_batch_when_nothing_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    with torch.no_grad():
        model.output.bias[0] = 6.0  # ends at once
    rows: list[int] = []
    step = CachedSteps.step

    def counted(self: CachedSteps, tokens: Tensor) -> Tensor:
        rows.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(CachedSteps, "step", counted)
    cells, mask = pictures(4)
    found = beams(model, cells, mask, beams=3, max_length=20)
    assert len(rows) < 8 and rows[-1] <= rows[1] == 12
    late = plain_beam(model, model.encode(cells, mask), Decoding(method="beam", beams=3, max_length=20))
    assert [[w + [0] * (20 - len(w)) for _, w, _ in groups[0]] for groups in late] == found.rows.tolist()


def test_a_picture_is_captioned_alike_in_any_batch() -> None:
    model = small()
    cells, mask = pictures(4)
    together = beams(model, cells, mask, beams=3)
    for i in range(4):
        alone = beams(model, cells[i : i + 1], mask[i : i + 1], beams=3)
        assert torch.equal(alone.rows, together.rows[i : i + 1])
        torch.testing.assert_close(alone.scores, together.scores[i : i + 1], atol=1e-4, rtol=0)
