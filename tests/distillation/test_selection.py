from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clipvil.distillation.selection import Selected, noise, select
from clipvil.distillation.settings import SelectionChoice

SCORES = torch.tensor([[0.1, 0.5, 0.3, 0.2, 0.4], [0.9, 0.1, 0.0, 0.0, 0.0]])
VALID = torch.tensor([[True] * 5, [True, True, False, False, False]])


def chosen(found: Selected) -> list[list[int]]:
    return [places[shares > 0].tolist() for places, shares in zip(found.places, found.shares, strict=True)]


def run(
    policy: str, scores: Tensor = SCORES, valid: Tensor = VALID, kind: str = "relevance", **more: object
) -> Selected:
    choice = SelectionChoice.model_validate({"policy": policy, **more})
    return select(scores, valid, choice, kind, noise(torch.arange(len(scores)), scores.shape[1], 0, 0))


def test_top_k_takes_a_share_of_what_there_is_and_at_least_one() -> None:
    assert chosen(run("top_k", keep=0.4)) == [[1, 4], [0]]
    assert chosen(run("top_k", keep=0.3)) == [[1, 4], [0]]
    assert chosen(run("top_k", keep=0.01)) == [[1], [0]]
    assert chosen(run("top_k", keep=1.0)) == [[0, 1, 2, 3, 4], [0, 1]]


def test_a_tenth_is_not_rounded_up_by_an_error_of_rounding() -> None:
    scores = torch.arange(10.0)[None]
    assert len(chosen(run("top_k", scores, torch.ones(1, 10, dtype=torch.bool), keep=0.3))[0]) == 3


def test_nucleus_takes_the_fewest_that_add_up() -> None:
    assert chosen(run("nucleus", keep=0.5, temperature=1.0)) == [[1, 2, 4], [0]]
    assert chosen(run("nucleus", keep=0.99, temperature=1.0)) == [[0, 1, 2, 3, 4], [0, 1]]


def test_threshold_takes_what_stands_out_or_the_best() -> None:
    assert chosen(run("threshold", deviations=1.0)) == [[1], [0]]
    assert chosen(run("threshold", deviations=9.0)) == [[1], [0]]
    assert chosen(run("threshold", deviations=-9.0)) == [[0, 1, 2, 3, 4], [0, 1]]


def test_all_and_uniform_take_everything_equally() -> None:
    everything = [[0, 1, 2, 3, 4], [0, 1]]
    for found in (run("all"), run("top_k", kind="uniform", keep=0.2)):
        assert chosen(found) == everything
        torch.testing.assert_close(found.shares[1, :2], torch.tensor([0.5, 0.5]))


def test_shares_follow_relevance_where_asked_and_sum_to_one() -> None:
    found = run("top_k", keep=0.4, shares="relevance", temperature=0.1)
    torch.testing.assert_close(found.shares.sum(1), torch.ones(2))
    torch.testing.assert_close(found.shares[0, 0] / found.shares[0, 1], torch.tensor(1.0).exp())


def test_an_example_without_candidates_has_no_shares() -> None:
    found = run("top_k", valid=torch.zeros(2, 5, dtype=torch.bool))
    assert found.shares.sum() == 0 and not found.shares.isnan().any()


@pytest.mark.parametrize("policy", ["top_k", "nucleus", "threshold", "sample", "all"])
@pytest.mark.parametrize("kind", ["relevance", "random"])
def test_neither_padding_nor_order_changes_what_is_selected(policy: str, kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    scores, lengths = torch.rand(40, 9, generator=generator).round(decimals=1), torch.randint(1, 10, (40,))
    valid = torch.arange(9) < lengths[:, None]
    choice = SelectionChoice.model_validate({"policy": policy, "keep": 0.5})

    def result(rows: Tensor, extra: int) -> list[list[int]]:
        padded = torch.nn.functional.pad(scores[rows], (0, extra), value=5.0)
        there = torch.nn.functional.pad(valid[rows], (0, extra), value=False)
        return chosen(select(padded, there, choice, kind, noise(rows, 9 + extra, 1, 2)))

    plain = result(torch.arange(40), 0)
    order = torch.randperm(40, generator=generator)
    assert result(order, 6) == [plain[row] for row in order.tolist()]
    assert any(len(one) < int(length) for one, length in zip(plain, lengths, strict=True)) or policy == "all"


def test_noise_is_a_function_of_seed_step_and_example() -> None:
    numbers = torch.arange(5000)
    first, again, other = noise(numbers, 4, 0, 7), noise(numbers, 4, 0, 7), noise(numbers, 4, 0, 8)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert float(first.min()) >= 0 and float(first.max()) < 1
    assert abs(float(first.mean()) - 0.5) < 0.01
    assert torch.equal(noise(torch.tensor([17]), 4, 0, 7)[0], first[17])


def test_random_draws_change_with_the_step_and_sampling_keeps_the_share() -> None:
    scores, valid = torch.zeros(2000, 10), torch.ones(2000, 10, dtype=torch.bool)
    choice = SelectionChoice(policy="sample", keep=0.4)
    drawn = [select(scores, valid, choice, "relevance", noise(torch.arange(2000), 10, 0, step)) for step in (0, 1)]
    counts = [torch.tensor([len(one) for one in chosen(found)], dtype=torch.float32) for found in drawn]
    assert chosen(drawn[0]) != chosen(drawn[1])
    assert abs(float(counts[0].mean()) - 4) < 0.2
