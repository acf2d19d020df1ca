from __future__ import annotations

import torch

from clipvil.models.layers import NonLinear, ScalarNormLinear, grid_positions, masked_softmax


def test_scalar_norm_uses_one_gain_and_the_norm_of_the_whole_matrix() -> None:
    torch.manual_seed(0)
    layer = ScalarNormLinear(6, 4)
    assert layer.weight_g.shape == ()
    x = torch.randn(3, 6)
    plain = torch.nn.functional.linear(x, layer.weight_v, layer.bias)
    assert torch.allclose(layer(x), plain, atol=1e-6)  # a fresh gain is the norm itself
    with torch.no_grad():
        layer.weight_v.mul_(7.0)
    assert torch.allclose(layer(x), plain, atol=1e-5)  # the length of V has no say
    with torch.no_grad():
        layer.weight_g.mul_(2.0)
    assert torch.allclose(layer(x) - layer.bias, 2 * (plain - layer.bias), atol=1e-5)


def test_non_linear_is_not_negative_and_drops_only_in_training() -> None:
    torch.manual_seed(0)
    layer = NonLinear(5, 3, dropout=0.5)
    x = torch.randn(20, 5)
    assert (layer(x) >= 0).all()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_masked_softmax_gives_padding_nothing() -> None:
    scores = torch.tensor([[1.0, 2.0, 50.0], [3.0, 1.0, 2.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    weights = masked_softmax(scores, mask, dim=1)
    assert weights[0, 2] == 0
    assert torch.allclose(weights[0, :2], scores[0, :2].softmax(0))
    assert torch.allclose(weights[1], scores[1].softmax(0))


def test_positions_follow_rows_and_columns() -> None:
    places = grid_positions(torch.tensor([[2, 3], [1, 2]]), 6)
    third = 2 / 3
    expected = [[-third, -0.5], [0, -0.5], [third, -0.5], [-third, 0.5], [0, 0.5], [third, 0.5]]
    assert torch.allclose(places[0], torch.tensor(expected), atol=1e-6)
    assert torch.allclose(places[1, :2], torch.tensor([[-0.5, 0.0], [0.5, 0.0]]))
