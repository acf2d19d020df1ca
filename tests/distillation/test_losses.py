from __future__ import annotations

import pytest
import torch

from clipvil.distillation.losses import LOSSES


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(6, 16), (6, 3, 16)])
def test_a_distance_is_one_number_a_vector_and_least_where_they_agree(name: str, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, other = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    same, apart = LOSSES[name](teacher, teacher), LOSSES[name](other, teacher)
    assert same.shape == shape[:-1]
    assert float(same.mean()) < float(apart.mean())


def test_normalised_l2_is_two_less_two_cosines_whatever_the_length() -> None:
    u, v = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    torch.testing.assert_close(LOSSES["normalised_l2"](u, v), 2 - 2 * torch.tensor([0.5]).sqrt())
    torch.testing.assert_close(LOSSES["normalised_l2"](7 * u, v), LOSSES["normalised_l2"](u, v))


def test_info_nce_of_a_batch_that_cannot_be_told_apart_is_its_logarithm() -> None:
    same = torch.ones(4, 8)
    torch.testing.assert_close(LOSSES["info_nce"](same, same), torch.full((4,), 4.0).log())
