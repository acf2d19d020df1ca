from __future__ import annotations

import pytest
import torch

from clipvil.models.decoding import Decoded, Decoding, decode
from clipvil.models.decoding.options import Decoding as Options
from clipvil.models.decoding.sampling import _weights
from tests.models.captioners import pictures, small


def draw(seed: int = 0, cache: bool = True, pictures_: int = 3, **options: object) -> Decoded:
    model = small()
    cells, mask = pictures(pictures_)
    chosen = Decoding(method="sample", **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    return decode(model, model.encode(cells, mask), chosen, generator, cache=cache)


def test_samples_follow_the_seed_and_differ() -> None:
    first = draw(samples=4)
    assert torch.equal(first.rows, draw(samples=4).rows)
    assert torch.equal(first.rows, draw(samples=4, cache=False).rows)
    assert not torch.equal(first.rows, draw(1, samples=4).rows)
    assert first.rows.shape == (3, 4, 20)
    assert len({tuple(row) for row in first.rows[0].tolist()}) > 1


def test_nothing_stands_behind_an_end() -> None:
    found = draw(samples=8)
    ended = (found.rows == 0).cumsum(2) - (found.rows == 0).long() > 0
    assert ended.any()
    assert not found.rows[ended].any() and not found.log_probs[ended].any()
    assert (found.log_probs[~ended] < 0).all()
    torch.testing.assert_close(found.scores, found.log_probs.sum(2))


def test_log_probabilities_are_those_of_the_model() -> None:
    model = small()
    cells, mask = pictures(3)
    found = draw(samples=4, temperature=2.0)
    rows = found.rows.flatten(0, 1)
    log_probs = model(cells, torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :-1]], 1), mask)
    own = log_probs.gather(2, rows.unsqueeze(2)).squeeze(2).view(found.log_probs.shape)
    said = found.log_probs != 0
    torch.testing.assert_close(found.log_probs[said], own[said], atol=1e-4, rtol=1e-4)


def test_first_and_second_words_come_as_often_as_the_model_says() -> None:
    model = small()
    cells, mask = pictures(1)
    found = draw(pictures_=1, samples=8000, max_length=2)
    chance = model(cells, torch.zeros(1, 1, dtype=torch.int64), mask)[0, 0].exp()
    share = torch.bincount(found.rows[0, :, 0], minlength=11) / 8000
    torch.testing.assert_close(share, chance, atol=0.02, rtol=0)
    often = int(chance[1:].argmax()) + 1
    seconds = found.rows[0, found.rows[0, :, 0] == often, 1]
    chance = model(cells, torch.tensor([[0, often]]), mask)[0, 1].exp()
    torch.testing.assert_close(torch.bincount(seconds, minlength=11) / len(seconds), chance, atol=0.04, rtol=0)


def test_a_low_temperature_and_one_word_at_most_are_greedy() -> None:
    model = small()
    cells, mask = pictures(3)
    greedy = decode(model, model.encode(cells, mask), Decoding()).rows
    for options in ({"temperature": 1e-3}, {"top_k": 1}, {"top_p": 1e-6}):
        assert torch.equal(draw(samples=2, **options).rows, greedy.expand(-1, 2, -1))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (Options(), [0.5, 0.3, 0.15, 0.05]),
        (Options(top_k=2), [0.5, 0.3, 0, 0]),
        (Options(top_k=9), [0.5, 0.3, 0.15, 0.05]),
        (Options(top_p=0.6), [0.5, 0.3, 0, 0]),
        (Options(top_p=0.45), [0.5, 0, 0, 0]),
        (Options(top_p=0.9, top_k=2), [0.5, 0.3, 0, 0]),
    ],
    ids=str,
)
def test_what_is_drawn_from(options: Options, kept: list[float]) -> None:
    order = torch.tensor([2, 0, 3, 1])
    weights = _weights(torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()[:, order], options)
    wanted = torch.tensor([kept])[:, order]
    torch.testing.assert_close(weights / weights.sum(), wanted / wanted.sum())


def test_a_hot_temperature_flattens() -> None:
    weights = _weights(torch.tensor([[0.8, 0.2]]).log(), Options(temperature=2.0))
    torch.testing.assert_close(weights[0, 0] / weights[0, 1], torch.tensor(2.0))
